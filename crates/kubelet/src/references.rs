//! ConfigMaps and Secrets that pods refer to: one watch for each object, shared by the pods that name it and dropped
//! with the last of them, whose workers are woken by its changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tug_client::{Informer, Informers, Scope};

/// Where a pod's ConfigMaps and Secrets come from.
#[async_trait]
pub trait Sources: Send + Sync {
    async fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>>;
    async fn secret(&self, name: &str) -> Option<Arc<Secret>>;
}

/// The node's.
pub struct References {
    informers: Informers,
    config_maps: Pool<ConfigMap>,
    secrets: Pool<Secret>,
}

/// One pod's: holds the watches that it has asked for.
pub struct PodReferences {
    shared: Arc<References>,
    namespace: String,
    wake: Arc<Notify>,
    config_maps: Mutex<HashMap<String, Arc<Watched<ConfigMap>>>>,
    secrets: Mutex<HashMap<String, Arc<Watched<Secret>>>>,
}

/// One watched object and the workers to wake.
struct Watched<K> {
    informer: Informer<K>,
    wakers: Mutex<Vec<Weak<Notify>>>,
    changes: AtomicU64,
}

/// By namespace and name.
type ByName<T> = HashMap<(String, String), T>;

struct Pool<K> {
    watched: Mutex<ByName<Weak<Watched<K>>>>,
}

// === impl References ===

impl References {
    pub fn new(informers: Informers) -> Self {
        Self { informers, config_maps: Pool { watched: Mutex::default() }, secrets: Pool { watched: Mutex::default() } }
    }

    /// `wake` is notified when something that the pod has asked for changes.
    pub fn of_pod(self: &Arc<Self>, namespace: &str, wake: Arc<Notify>) -> PodReferences {
        PodReferences {
            shared: Arc::clone(self),
            namespace: namespace.to_owned(),
            wake,
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
        }
    }
}

impl PodReferences {
    /// Grows whenever something that the pod has asked for changes.
    pub fn changes(&self) -> u64 {
        let maps: u64 = self.config_maps.lock().values().map(|watched| watched.changes.load(Ordering::Relaxed)).sum();
        let secrets: u64 = self.secrets.lock().values().map(|watched| watched.changes.load(Ordering::Relaxed)).sum();
        maps + secrets
    }
}

#[async_trait]
impl Sources for PodReferences {
    async fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        let watched = {
            let mut held = self.config_maps.lock();
            let make = || self.shared.config_maps.get(&self.shared.informers, &self.namespace, name, &self.wake);
            Arc::clone(held.entry(name.to_owned()).or_insert_with(make))
        };
        watched.informer.synced().await;
        watched.informer.get(&self.namespace, name)
    }

    async fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        let watched = {
            let mut held = self.secrets.lock();
            let make = || self.shared.secrets.get(&self.shared.informers, &self.namespace, name, &self.wake);
            Arc::clone(held.entry(name.to_owned()).or_insert_with(make))
        };
        watched.informer.synced().await;
        watched.informer.get(&self.namespace, name)
    }
}

// === impl Pool ===

impl<K: Resource + DeserializeOwned + Send + Sync + 'static> Pool<K> {
    fn get(&self, informers: &Informers, namespace: &str, name: &str, wake: &Arc<Notify>) -> Arc<Watched<K>> {
        let mut pool = self.watched.lock();
        pool.retain(|_, watched| watched.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(watched) = pool.get(&key).and_then(Weak::upgrade) {
            watched.add(wake);
            return watched;
        }
        let informer = informers.scoped::<K>(Scope {
            namespace: namespace.to_owned(),
            fields: format!("metadata.name={name}"),
            ..Scope::default()
        });
        let watched = Arc::new(Watched { informer, wakers: Mutex::default(), changes: AtomicU64::default() });
        watched.add(wake);
        // Weak: the informer, which holds this subscription, is held by `Watched` itself.
        let weak = Arc::downgrade(&watched);
        watched.informer.subscribe(move |_| {
            if let Some(watched) = weak.upgrade() {
                watched.wake();
            }
        });
        pool.insert(key, Arc::downgrade(&watched));
        watched
    }
}

impl<K> Watched<K> {
    fn add(&self, wake: &Arc<Notify>) {
        let mut wakers = self.wakers.lock();
        wakers.retain(|waker| waker.strong_count() > 0);
        wakers.push(Arc::downgrade(wake));
    }

    fn wake(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        for waker in self.wakers.lock().iter().filter_map(Weak::upgrade) {
            waker.notify_one();
        }
    }
}
