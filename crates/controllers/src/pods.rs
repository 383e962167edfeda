//! All pods by their names and by who controls them: one index for all controllers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use parking_lot::RwLock;
use tug_api::{Object, ObjectKey};
use tug_client::Informer;

use crate::pod::Pod;

pub(crate) struct Pods {
    /// Whoever subscribes to it hears of changes that are in the index already.
    pub informer: Informer<v1::Pod>,
    state: Arc<RwLock<State>>,
}

#[derive(Default)]
struct State {
    all: BTreeMap<ObjectKey, Pod>,
    /// By the uid of the controller; by the namespace for those that have none.
    groups: HashMap<String, BTreeSet<ObjectKey>>,
}

impl Pods {
    pub fn follow(informer: Informer<v1::Pod>) -> Self {
        let state: Arc<RwLock<State>> = Arc::default();
        let follower = state.clone();
        informer.subscribe(move |change| follower.write().put(change.old.as_deref(), change.new.as_ref()));
        Self { informer, state }
    }

    pub fn controlled_by(&self, uid: &str) -> Vec<Pod> {
        self.state.read().group(uid)
    }

    /// Those of the namespace that have no controller.
    pub fn orphans_in(&self, namespace: &str) -> Vec<Pod> {
        self.state.read().group(namespace)
    }

    pub fn all_in(&self, namespace: &str) -> Vec<Pod> {
        let state = self.state.read();
        let from = state.all.range(ObjectKey::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, pod)| pod.clone()).collect()
    }
}

fn group_of(pod: &Object) -> &str {
    pod.meta.controller().map_or(&pod.key.namespace, |owner| &owner.uid)
}

impl State {
    fn group(&self, name: &str) -> Vec<Pod> {
        let keys = self.groups.get(name).into_iter().flatten();
        keys.filter_map(|key| self.all.get(key)).cloned().collect()
    }

    fn put(&mut self, old: Option<&Object>, new: Option<&Arc<Object>>) {
        if let Some(old) = old {
            self.all.remove(&old.key);
            let name = group_of(old);
            if let Some(group) = self.groups.get_mut(name) {
                group.remove(&old.key);
                if group.is_empty() {
                    self.groups.remove(name);
                }
            }
        }
        let Some(new) = new else { return };
        match Pod::read(new.clone()) {
            Ok(pod) => {
                self.groups.entry(group_of(new).to_owned()).or_default().insert(new.key.clone());
                self.all.insert(new.key.clone(), pod);
            }
            Err(error) => tracing::warn!(pod = %new.key, %error, "a pod can't be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::object;

    #[test]
    fn a_pod_is_found_by_its_newest_controller_only() {
        let controlled = |uid: &str| {
            json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "v1", "kind": "X", "name": "guest", "uid": "guest" },
            { "apiVersion": "v1", "kind": "X", "name": uid, "uid": uid, "controller": true },
        ] } })
        };
        let steps: [(Option<Value>, [usize; 3]); 4] = [
            (Some(json!({})), [1, 0, 0]),
            (Some(controlled("a")), [0, 1, 0]),
            (Some(controlled("b")), [0, 0, 1]),
            (None, [0, 0, 0]),
        ];
        let (mut state, mut old) = (State::default(), None::<Arc<Object>>);
        for (next, expected) in steps {
            let new = next.as_ref().map(|fields| object("p", fields));
            state.put(old.as_deref(), new.as_ref());
            old = new;
            assert_eq!(["n", "a", "b"].map(|group| state.group(group).len()), expected, "{next:?}");
        }
        assert!(state.all.is_empty() && state.groups.is_empty());
    }
}
