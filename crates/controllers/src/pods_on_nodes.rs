//! Which pods are bound to which node. A pod is looked into until it is bound, for it then stays where it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use serde::Deserialize;
use tug_api::{Object, ObjectKey};
use tug_client::{Change, Informer};

#[derive(Clone, Default)]
pub(crate) struct PodsOnNodes {
    places: Arc<RwLock<Places>>,
}

#[derive(Default)]
struct Places {
    node_of: HashMap<ObjectKey, String>,
    pods_on: HashMap<String, BTreeSet<ObjectKey>>,
}

impl PodsOnNodes {
    /// Calls `f` for each change of a pod with the node that it is, or was last, bound to.
    pub fn follow(pods: &Informer<Pod>, f: impl Fn(&Change, Option<&str>) + Send + Sync + 'static) -> Self {
        let on_nodes = Self::default();
        let index = on_nodes.clone();
        pods.subscribe(move |change| {
            let node = index.place(change);
            f(change, node.as_deref());
        });
        on_nodes
    }

    pub fn on(&self, node: &str) -> Vec<ObjectKey> {
        self.places.read().pods_on.get(node).into_iter().flatten().cloned().collect()
    }

    pub fn bound(&self) -> usize {
        self.places.read().node_of.len()
    }

    fn place(&self, change: &Change) -> Option<String> {
        let key = &change.object().key;
        let known = self.places.read().node_of.get(key).cloned();
        let Some(new) = &change.new else {
            self.places.write().put(key, None);
            return known;
        };
        let is_same = change.old.as_ref().is_some_and(|old| old.meta.uid == new.meta.uid);
        if known.is_some() && is_same {
            return known;
        }
        let node = node_of(new);
        if node != known {
            self.places.write().put(key, node.clone());
        }
        node
    }
}

impl Places {
    fn put(&mut self, key: &ObjectKey, node: Option<String>) {
        if let Some(before) = self.node_of.remove(key)
            && let Some(pods) = self.pods_on.get_mut(&before)
        {
            pods.remove(key);
            if pods.is_empty() {
                self.pods_on.remove(&before);
            }
        }
        if let Some(node) = node {
            self.pods_on.entry(node.clone()).or_default().insert(key.clone());
            self.node_of.insert(key.clone(), node);
        }
    }
}

/// The one field, without the pod around it.
fn node_of(pod: &Object) -> Option<String> {
    #[derive(Deserialize)]
    struct Bound {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
    }
    let bound: Bound = serde_json::from_slice(pod.json()).ok()?;
    bound.spec.node_name.filter(|node| !node.is_empty())
}
