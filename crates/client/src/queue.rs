//! A work queue of keys, with the rules of client-go's `workqueue`: a key waits once however often it is added, is never
//! worked on by two workers at once, and comes back after failures with growing delays.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// client-go's `DefaultTypedControllerRateLimiter`, its per-item part.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LONGEST_DELAY: Duration = Duration::from_secs(1000);

/// Cheap to clone; all clones are one queue. It holds each key once, so it is bounded by the number of objects.
pub struct Queue<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Waiting, or to wait again once its work is done.
    dirty: HashSet<T>,
    in_work: HashSet<T>,
    failures: HashMap<T, u32>,
    /// Keys by the time at which they become due; `due` has the time that counts for each.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    due: HashMap<u64, T>,
    due_at: HashMap<T, Instant>,
    next_ticket: u64,
    closed: bool,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Queue<T> {
    pub fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            in_work: HashSet::new(),
            failures: HashMap::new(),
            delayed: BinaryHeap::new(),
            due: HashMap::new(),
            due_at: HashMap::new(),
            next_ticket: 0,
            closed: false,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }) }
    }

    pub fn add(&self, item: T) {
        if self.inner.state.lock().add(item) {
            self.inner.changed.notify_one();
        }
    }

    /// Adds the item when `delay` is over; of several delays the one that ends first counts.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        let mut state = self.inner.state.lock();
        let at = Instant::now() + delay;
        if state.closed || state.due_at.get(&item).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.due_at.insert(item.clone(), at);
        state.due.insert(ticket, item);
        state.delayed.push(Reverse((at, ticket)));
        drop(state);
        // Whoever sleeps until a later time must look again.
        self.inner.changed.notify_one();
    }

    /// Comes back after 5 ms, doubled for each failure since [`Queue::forget`], up to 1000 s (client-go's default
    /// per-item limiter).
    pub fn add_failed(&self, item: T) {
        let failures = {
            let mut state = self.inner.state.lock();
            let count = state.failures.entry(item.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let delay = FIRST_DELAY.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST_DELAY);
        self.add_after(item, delay);
    }

    pub fn forget(&self, item: &T) {
        self.inner.state.lock().failures.remove(item);
    }

    /// The next item, which is in work until [`Queue::done`]. `None` after [`Queue::close`].
    pub async fn next(&self) -> Option<T> {
        loop {
            let changed = self.inner.changed.notified();
            let wake = {
                let mut state = self.inner.state.lock();
                if state.closed {
                    drop(state);
                    // Each worker wakes the next one.
                    self.inner.changed.notify_one();
                    return None;
                }
                let wake = state.release_due(Instant::now());
                if let Some(item) = state.take() {
                    if !state.waiting.is_empty() || wake.is_some() {
                        self.inner.changed.notify_one();
                    }
                    return Some(item);
                }
                wake
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    pub fn done(&self, item: &T) {
        let mut state = self.inner.state.lock();
        state.in_work.remove(item);
        if state.dirty.contains(item) {
            state.waiting.push_back(item.clone());
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    /// No more items are handed out; waiting workers get `None`.
    pub fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.changed.notify_one();
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// True when the item waits now and didn't before.
    fn add(&mut self, item: T) -> bool {
        if self.closed || !self.dirty.insert(item.clone()) || self.in_work.contains(&item) {
            return false;
        }
        self.waiting.push_back(item);
        true
    }

    fn take(&mut self) -> Option<T> {
        let item = self.waiting.pop_front()?;
        self.dirty.remove(&item);
        self.in_work.insert(item.clone());
        Some(item)
    }

    /// Moves what is due to those that wait; returns when the next one will be.
    fn release_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&Reverse((at, ticket))) = self.delayed.peek() {
            let Some(item) = self.due.get(&ticket) else {
                self.delayed.pop();
                continue;
            };
            if self.due_at.get(item) != Some(&at) {
                // An earlier time was set since.
                self.delayed.pop();
                self.due.remove(&ticket);
                continue;
            }
            if at > now {
                return Some(at);
            }
            self.delayed.pop();
            if let Some(item) = self.due.remove(&ticket) {
                self.due_at.remove(&item);
                self.add(item);
            }
        }
        None
    }
}

/// What a reconciliation asks for when it went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the key is added again.
    Wait,
    /// To be called again after this time, whatever happens.
    After(Duration),
}

/// Works on the queue's items, so many at once, until it is closed. A failed item is logged and comes back later.
pub async fn work<T, F, Fut, E>(queue: Queue<T>, workers: usize, name: &'static str, reconcile: F)
where
    T: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<Next, E>>,
    E: Display,
{
    let worker = || async {
        while let Some(item) = queue.next().await {
            match reconcile(item.clone()).await {
                Ok(next) => {
                    queue.forget(&item);
                    if let Next::After(delay) = next {
                        queue.add_after(item.clone(), delay);
                    }
                }
                Err(error) => {
                    tracing::info!(controller = name, key = %item, %error, "will try again");
                    queue.add_failed(item.clone());
                }
            }
            queue.done(&item);
        }
    };
    join_all((0..workers.max(1)).map(|_| worker())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_item_waits_once_and_is_never_worked_on_twice_at_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("b"), "a is in work");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"), "it was added meanwhile");
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_with_growing_delays() {
        let queue = Queue::new();
        let start = Instant::now();
        for expected in [5, 15, 35] {
            queue.add_failed("a");
            assert_eq!(queue.next().await, Some("a"));
            assert_eq!(start.elapsed().as_millis(), expected);
            queue.done(&"a");
        }
        queue.forget(&"a");
        queue.add_failed("a");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_millis(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_several_delays_counts() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(6));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        queue.done(&"a");
        queue.add_after("b", Duration::from_secs(60));
        assert_eq!(queue.next().await, Some("b"), "a doesn't come back");
    }

    #[tokio::test]
    async fn closing_wakes_all_workers() {
        let queue = Queue::<String>::new();
        let running = tokio::spawn(work(queue.clone(), 3, "test", |_| async { Ok::<_, String>(Next::Wait) }));
        queue.add("a".into());
        queue.close();
        running.await.expect("all three have ended");
    }
}
