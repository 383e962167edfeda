//! Informers to cache and queue: each change is applied at once, under the state's lock, and wakes the pods it may help.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    self as core, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tug_api::{Object, ObjectKey, Selector};
use tug_client::{Change as Heard, Cluster, Informer};

use crate::change::{Change, Kinds, Subject};
use crate::node::Node;
use crate::pod::{self, PodInfo};
use crate::storage::Storage;
use crate::{NAME, Shared, State};

/// All that is followed.
pub struct Informers {
    pods: Informer<Pod>,
    nodes: Informer<core::Node>,
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    replication_controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    budgets: Informer<PodDisruptionBudget>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
}

pub fn start(shared: &Arc<Shared>, cluster: &Cluster) -> Informers {
    let all = &cluster.informers;
    let informers = Informers {
        pods: all.of(),
        nodes: all.of(),
        namespaces: all.of(),
        services: all.of(),
        replication_controllers: all.of(),
        replica_sets: all.of(),
        stateful_sets: all.of(),
        budgets: all.of(),
        claims: all.of(),
        volumes: all.of(),
        classes: all.of(),
    };
    let shared = Arc::downgrade(shared);
    follow(&shared, &informers.pods, pod);
    follow(&shared, &informers.nodes, node);
    follow(&shared, &informers.namespaces, namespace);
    follow(&shared, &informers.services, service);
    follow(&shared, &informers.replication_controllers, |shared, heard| {
        workload(shared, heard, |controller: &ReplicationController| {
            Some(Selector::from_labels(controller.spec.as_ref()?.selector.as_ref()?))
        });
    });
    follow(&shared, &informers.replica_sets, |shared, heard| {
        workload(shared, heard, |set: &ReplicaSet| pod::selector(Some(&set.spec.as_ref()?.selector)).ok()?);
    });
    follow(&shared, &informers.stateful_sets, |shared, heard| {
        workload(shared, heard, |set: &StatefulSet| pod::selector(Some(&set.spec.as_ref()?.selector)).ok()?);
    });
    follow(&shared, &informers.budgets, budget);
    follow(&shared, &informers.claims, claim);
    follow(&shared, &informers.volumes, |shared, heard| {
        storage(shared, heard, Kinds::VOLUME, Storage::put_volume, Storage::remove_volume);
    });
    follow(&shared, &informers.classes, |shared, heard| {
        storage(shared, heard, Kinds::CLASS, Storage::put_class, Storage::remove_class);
    });
    informers
}

impl Informers {
    /// Returns once all first listings are in.
    pub async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
        self.services.synced().await;
        self.replication_controllers.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.budgets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }
}

/// Calls `note` for each change as long as the scheduler is there.
fn follow<K>(shared: &Weak<Shared>, informer: &Informer<K>, note: fn(&Shared, &Heard))
where
    K: DeserializeOwned + Send + Sync + 'static,
{
    let shared = shared.clone();
    informer.subscribe(move |heard| {
        if let Some(shared) = shared.upgrade() {
            note(&shared, heard);
        }
    });
}

/// The typed view; `None` also for what can't be read, which stays as it was known.
fn typed<K: DeserializeOwned + Send + Sync + 'static>(object: &Object) -> Option<Arc<K>> {
    object.typed().inspect_err(|error| tracing::warn!(object = %object.key, %error, "an object can't be read")).ok()
}

fn pod(shared: &Shared, heard: &Heard) {
    let gone = match (&heard.old, &heard.new) {
        (Some(old), Some(new)) => old.meta.uid != new.meta.uid,
        (_, new) => new.is_none(),
    };
    let new = heard.new.as_deref().and_then(typed::<Pod>).map(|pod| Arc::new(PodInfo::of(&pod)));
    shared.change(|state| {
        let now = Instant::now();
        if let Some(old) = heard.old.as_ref().filter(|_| gone) {
            state.pod_gone(&old.meta.uid, now);
        }
        if let Some(new) = new {
            state.pod_is(new, now);
        }
    });
}

fn node(shared: &Shared, heard: &Heard) {
    let new = heard.new.as_deref().map(typed::<core::Node>);
    let change = |state: &mut State| match new {
        Some(Some(node)) => {
            let node = Arc::new(Node::of(&node));
            let old = state.cache.put_node(node.clone());
            state.queue.happened(&Change::node(old, Some(node)), Instant::now());
        }
        Some(None) => {}
        None => {
            let old = state.cache.remove_node(&heard.object().key.name);
            state.queue.happened(&Change::node(old, None), Instant::now());
        }
    };
    shared.change(change);
}

fn namespace(shared: &Shared, heard: &Heard) {
    let name = heard.object().key.name.clone();
    let labels = heard.new.as_ref().map(|namespace| namespace.meta.labels.clone());
    shared.change(|state| match labels {
        Some(labels) => drop(state.cache.others.namespaces.insert(name, labels)),
        None => drop(state.cache.others.namespaces.remove(&name)),
    });
}

fn service(shared: &Shared, heard: &Heard) {
    let select = |service: Arc<Service>| Some(Selector::from_labels(service.spec.as_ref()?.selector.as_ref()?));
    // One without labels to select by has no pods.
    let selector = heard.new.as_deref().and_then(typed).and_then(select).filter(|selector| !selector.is_empty());
    shared.change(|state| put(&mut state.cache.others.services, &heard.object().key, selector));
}

fn workload<K>(shared: &Shared, heard: &Heard, select: fn(&K) -> Option<Selector>)
where
    K: Resource + DeserializeOwned + Send + Sync + 'static,
{
    // Its status changes with each of its pods, its selector hardly ever.
    if let (Some(old), Some(new)) = (&heard.old, &heard.new)
        && old.meta.uid == new.meta.uid
        && old.meta.generation == new.meta.generation
    {
        return;
    }
    let selector = heard.new.as_deref().and_then(typed::<K>).and_then(|workload| select(&workload));
    shared.change(|state| {
        put(state.cache.others.workloads.entry(K::KIND).or_default(), &heard.object().key, selector);
    });
}

fn budget(shared: &Shared, heard: &Heard) {
    let key = &heard.object().key;
    let budget = heard.new.as_deref().map(typed::<PodDisruptionBudget>);
    shared.change(|state| match budget {
        Some(Some(budget)) => state.cache.others.budgets.put(key, &budget),
        Some(None) => {}
        None => state.cache.others.budgets.remove(key),
    });
}

fn claim(shared: &Shared, heard: &Heard) {
    let key = &heard.object().key;
    let claim = heard.new.as_deref().map(typed::<PersistentVolumeClaim>);
    shared.change(|state| match claim {
        Some(Some(claim)) => {
            state.cache.others.storage.put_claim(key, &claim);
            let change = Change { kinds: Kinds::CLAIM, subject: Subject::Claim(key.clone()) };
            state.queue.happened(&change, Instant::now());
        }
        Some(None) => {}
        None => state.cache.others.storage.remove_claim(key),
    });
    shared.claims.notify_waiters();
}

fn storage<K: DeserializeOwned + Send + Sync + 'static>(
    shared: &Shared,
    heard: &Heard,
    kinds: Kinds,
    put: fn(&mut Storage, &ObjectKey, &K),
    remove: fn(&mut Storage, &ObjectKey),
) {
    let key = &heard.object().key;
    let object = heard.new.as_deref().map(typed::<K>);
    shared.change(|state| match object {
        Some(Some(object)) => {
            put(&mut state.cache.others.storage, key, &object);
            state.queue.happened(&Change { kinds, subject: Subject::Storage }, Instant::now());
        }
        Some(None) => {}
        None => remove(&mut state.cache.others.storage, key),
    });
}

fn put(selectors: &mut crate::cache::Selectors, key: &ObjectKey, selector: Option<Selector>) {
    match selector {
        Some(selector) => {
            selectors.entry(key.namespace.clone()).or_default().insert(key.name.clone(), selector);
        }
        None => {
            let left = selectors.get_mut(&key.namespace).map(|named: &mut BTreeMap<_, _>| {
                named.remove(&key.name);
                named.is_empty()
            });
            if left == Some(true) {
                selectors.remove(&key.namespace);
            }
        }
    }
}

impl State {
    /// The pod isn't there any more, or is over.
    pub fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        let nominee = self.cache.withdraw(uid);
        if let Some(old) = self.cache.remove_pod(uid).or(nominee) {
            self.queue.happened(&Change::pod(Some(old), None), now);
        }
    }

    /// The pod as it is now.
    pub fn pod_is(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let needs_no_node = pod.node_name.is_none() && pod.terminating;
        if pod.finished || needs_no_node {
            return self.pod_gone(&pod.uid, now);
        }
        if pod.node_name.is_some() {
            return self.pod_placed(pod, now);
        }
        // An assumed one is bound; the API shows it as it was before.
        if pod.wishes().scheduler_name != NAME || self.cache.is_assumed(&pod.uid) {
            return;
        }
        let old = self.queue.put(pod.clone(), now);
        // What was just decided here, the API may not show yet: only what changes there counts.
        let before = old.as_ref().and_then(|old| old.nominated_node.as_deref());
        if before == pod.nominated_node.as_deref() {
            return;
        }
        let freed = self.cache.withdraw(&pod.uid);
        if let Some(node) = &pod.nominated_node {
            self.cache.nominate(pod.clone(), node);
        }
        if freed.is_some() {
            self.queue.happened(&Change::pod(freed, None), now);
        }
    }

    fn pod_placed(&mut self, pod: Arc<PodInfo>, now: Instant) {
        self.queue.remove(&pod.uid);
        self.cache.withdraw(&pod.uid);
        let was_assumed = self.cache.is_assumed(&pod.uid);
        let old = self.cache.put_pod(pod.clone()).filter(|_| !was_assumed);
        self.queue.happened(&Change::pod(old, Some(pod)), now);
    }
}
