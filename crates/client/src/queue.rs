//! A work queue of keys, with the rules of client-go's `workqueue`: a key waits once however often it is added, is never
//! worked on by two workers at once, and comes back after failures with growing delays.

use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

/// Cheap to clone; all clones are one queue.
pub struct Queue<T> {
    item: PhantomData<T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { item: PhantomData }
    }
}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Queue<T> {
    pub fn new() -> Self {
        todo!()
    }

    pub fn add(&self, item: T) {
        let _ = item;
        todo!()
    }

    pub fn add_after(&self, item: T, delay: Duration) {
        let _ = (item, delay);
        todo!()
    }

    /// Comes back after 5 ms, doubled for each failure since [`Queue::forget`], up to 1000 s (client-go's default
    /// per-item limiter).
    pub fn add_failed(&self, item: T) {
        let _ = item;
        todo!()
    }

    pub fn forget(&self, item: &T) {
        let _ = item;
        todo!()
    }

    /// The next item, which is in work until [`Queue::done`]. `None` after [`Queue::close`].
    pub async fn next(&self) -> Option<T> {
        todo!()
    }

    pub fn done(&self, item: &T) {
        let _ = item;
        todo!()
    }

    pub fn close(&self) {
        todo!()
    }
}
