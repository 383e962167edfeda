//! The pods of this node: a worker for each, woken by the informer and by the runtime; what has no pod is cleaned up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tug_api::Object;
use tug_client::{Change, Informer, Informers, Scope};

use crate::admission::{self, Refusal};
use crate::groups;
use crate::kubelet::Context;
use crate::labels;
use crate::log_files;
use crate::pod;
use crate::runtime::Event;
use crate::task::AbortOnDrop;
use crate::volumes;
use crate::worker::{Update, Worker};

pub(crate) struct Pods {
    context: Arc<Context>,
    informer: Informer<Pod>,
    workers: Mutex<HashMap<String, Handle>>,
    tasks: Mutex<Vec<AbortOnDrop<()>>>,
    burstable_milli: watch::Sender<i64>,
}

struct Handle {
    updates: watch::Sender<Update>,
    wake: Arc<Notify>,
    ending: CancellationToken,
    refused: bool,
    _task: AbortOnDrop<()>,
}

/// An earlier kubelet has taken the pod in: it says so by its start.
fn was_taken_in(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

impl Pods {
    pub fn start(context: Arc<Context>, informers: &Informers) -> Arc<Self> {
        let fields = format!("spec.nodeName={}", context.config.node_name);
        let informer = informers.scoped::<Pod>(Scope { fields, ..Scope::default() });
        let events = context.runtime.events();
        let pods = Arc::new(Self {
            context,
            informer: informer.clone(),
            workers: Mutex::default(),
            tasks: Mutex::default(),
            burstable_milli: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Handle::current();
        let weak = Arc::downgrade(&pods);
        informer.subscribe(move |change| {
            let _entered = runtime.enter();
            if let Some(pods) = weak.upgrade() {
                pods.observe(change);
            }
        });
        let tasks = vec![
            AbortOnDrop(tokio::spawn(Arc::clone(&pods).follow(events))),
            AbortOnDrop(tokio::spawn(Arc::clone(&pods).remove_orphans())),
        ];
        pods.tasks.lock().extend(tasks);
        pods
    }

    /// All that the node knows of.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.informer.list()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.informer.get(namespace, name)
    }

    pub fn burstable_milli(&self) -> watch::Receiver<i64> {
        self.burstable_milli.subscribe()
    }

    /// Counts anew what the pods that are here ask for.
    fn count_requests(&self) {
        let pods: Vec<Arc<Pod>> =
            self.workers.lock().values().map(|handle| handle.updates.borrow().pod.clone()).collect();
        let milli = groups::burstable_milli(pods.iter().map(AsRef::as_ref).filter(|pod| !pod::is_over(pod)));
        self.burstable_milli.send_if_modified(|known| std::mem::replace(known, milli) != milli);
    }

    pub fn shutdown(&self) {
        self.tasks.lock().clear();
        self.workers.lock().clear();
    }

    fn observe(self: &Arc<Self>, change: &Change) {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && old.meta.uid != new.meta.uid
        {
            // Deleted and made anew between two looks.
            self.update(old, true);
        }
        match (&change.new, &change.old) {
            (Some(new), _) => self.update(new, false),
            (None, Some(old)) => self.update(old, true),
            (None, None) => {}
        }
    }

    fn update(self: &Arc<Self>, object: &Arc<Object>, gone: bool) {
        let pod = match object.typed::<Pod>() {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(pod = %object.key, %error, "not a pod");
                return;
            }
        };
        let uid = object.meta.uid.clone();
        let update = Update { pod: Arc::clone(&pod), gone };
        let mut workers = self.workers.lock();
        if let Some(handle) = workers.get(&uid) {
            if update.ending() {
                handle.ending.cancel();
            }
            handle.updates.send_replace(update);
            return;
        }
        if gone {
            return;
        }
        let refusal = if was_taken_in(&pod) { None } else { self.refusal(&pod, &workers) };
        let refused = refusal.is_some();
        let ending = CancellationToken::new();
        if update.ending() {
            ending.cancel();
        }
        let wake = Arc::new(Notify::new());
        let (updates, receiver) = watch::channel(update);
        let worker = Worker::new(Arc::clone(&self.context), receiver, Arc::clone(&wake), ending.clone(), refusal);
        let (weak, key) = (Arc::downgrade(self), uid.clone());
        let task = tokio::spawn(async move {
            worker.run().await;
            if let Some(pods) = weak.upgrade() {
                pods.workers.lock().remove(&key);
                pods.count_requests();
            }
        });
        workers.insert(uid, Handle { updates, wake, ending, refused, _task: AbortOnDrop(task) });
        drop(workers);
        self.count_requests();
    }

    /// Decided in the order of arrival, so that of two pods that don't fit together one is taken.
    fn refusal(&self, pod: &Pod, workers: &HashMap<String, Handle>) -> Option<Refusal> {
        let taken = workers.values().filter(|handle| !handle.refused).map(|handle| handle.updates.borrow().pod.clone());
        let others: Vec<Arc<Pod>> = taken.filter(|pod| !pod::is_over(pod)).collect();
        admission::admit(pod, &others, &self.context.capacity).err()
    }

    /// Wakes the worker whose sandbox something happened in.
    async fn follow(self: Arc<Self>, mut events: broadcast::Receiver<Event>) {
        loop {
            let sandbox = match events.recv().await {
                Ok(Event::Started { sandbox, .. } | Event::Exited { sandbox, .. }) => sandbox,
                Ok(Event::SandboxDied { id }) => id,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.workers.lock().values().for_each(|handle| handle.wake.notify_one());
                    continue;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if let Some(handle) = self.workers.lock().get(&sandbox) {
                handle.wake.notify_one();
            }
        }
    }

    /// Sandboxes, directories and logs of pods that went away while no kubelet was looking.
    async fn remove_orphans(self: Arc<Self>) {
        self.informer.synced().await;
        let listed: Vec<String> = self.informer.objects().iter().map(|pod| pod.meta.uid.clone()).collect();
        let known = |uid: &str| listed.iter().any(|known| known == uid) || self.workers.lock().contains_key(uid);
        let runtime = &self.context.runtime;
        for sandbox in runtime.sandboxes() {
            let Some(uid) = sandbox.labels.get(labels::POD_UID).filter(|uid| !known(uid)) else { continue };
            tracing::info!(uid, "ending a pod that the API server no longer has");
            let grace = sandbox.labels.get(labels::GRACE_PERIOD).and_then(|text| text.parse().ok()).unwrap_or(30);
            let containers = runtime.containers(&sandbox.id);
            let stops =
                containers.iter().map(|container| runtime.stop_container(&container.id, Duration::from_secs(grace)));
            for result in futures::future::join_all(stops).await {
                if let Err(error) = result {
                    tracing::warn!(uid, %error, "orphaned container not stopped");
                }
            }
            if let Err(error) = runtime.remove_sandbox(&sandbox.id).await {
                tracing::warn!(uid, %error, "orphaned sandbox not removed");
            }
        }
        log_files::remove_orphans(&self.context.config, known).await;
        let Ok(mut directories) = tokio::fs::read_dir(self.context.config.data_dir.join("pods")).await else { return };
        while let Ok(Some(entry)) = directories.next_entry().await {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !known(&uid)
                && let Err(error) = volumes::tear_down(entry.path(), &[""]).await
            {
                tracing::warn!(uid, error, "orphaned volumes not removed");
            }
        }
    }
}
