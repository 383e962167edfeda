//! What a controller is, what it is given, and how it works on its queue.

use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tug_client::{Informers, Next, Queue, Recorder};

use crate::Settings;
use crate::error::{Error, Result};
use crate::pods::Pods;

/// For a controller that works as kube-controller-manager itself.
pub(crate) const MANAGER: &str = "";

/// A row of the table of controllers.
pub(crate) struct Controller {
    /// kube-controller-manager's name for it.
    pub name: &'static str,
    /// Its service account in `kube-system`; the cluster role `system:controller:<account>` has its rights. Or
    /// [`MANAGER`].
    pub account: &'static str,
    /// Works until it is dropped: subscribes, waits for its informers, and ends in [`Context::work`].
    pub run: fn(Context) -> BoxFuture<'static, ()>,
}

/// What each controller is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub name: &'static str,
    /// Speaks as `account`.
    pub client: kube::Client,
    /// All controllers' together.
    pub informers: Informers,
    pub pods: Arc<Pods>,
    pub settings: Arc<Settings>,
}

impl Context {
    /// Events bear `component` as their source, which for some controllers differs from their name.
    pub fn recorder(&self, component: &'static str) -> Recorder {
        Recorder::new(self.client.clone(), component, None)
    }

    /// Reconciles the queue's keys, so many at once. A failed one comes back later, and so does one whose code panics:
    /// one bad object must not end the work on all others.
    pub async fn work<T, F, Fut>(&self, queue: Queue<T>, workers: usize, reconcile: F)
    where
        T: Clone + Eq + Hash + Display + Send + Sync + 'static,
        F: Fn(T) -> Fut,
        Fut: Future<Output = Result<Next>>,
    {
        // Unwind safety: reconcilers share nothing but concurrent structures, whose locks don't poison.
        let caught = |key| AssertUnwindSafe(reconcile(key)).catch_unwind().map(|end| end.unwrap_or(Err(Error::Panic)));
        tug_client::work(queue, workers, self.name, caught).await;
    }
}
