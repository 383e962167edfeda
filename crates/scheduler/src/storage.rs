//! Claims, volumes and storage classes, as far as they decide where a pod can be.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use tug_api::ObjectKey;

use crate::node::Node;
use crate::node_selector::RequiredNodes;

/// Says for which node a claim's volume is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Classes with it have their volumes made by people.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

#[derive(Default)]
pub struct Storage {
    claims: HashMap<String, BTreeMap<String, Claim>>,
    volumes: HashMap<String, Volume>,
    classes: HashMap<String, Class>,
}

pub struct Claim {
    pub volume: Option<String>,
    pub bound: bool,
    pub lost: bool,
    pub terminating: bool,
    pub class: Option<String>,
    pub selected_node: Option<String>,
    /// The uid of its controller.
    pub owner: Option<String>,
}

/// A volume may be reachable from some nodes only.
pub struct Volume {
    pub nodes: RequiredNodes,
}

pub struct Class {
    /// Volumes are made once it is known where they are needed.
    pub waits: bool,
    /// Volumes are made by a program.
    pub provisions: bool,
    topologies: Vec<TopologySelectorTerm>,
}

impl Storage {
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Claim> {
        self.claims.get(namespace)?.get(name)
    }

    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.get(name)
    }

    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    pub fn put_claim(&mut self, key: &ObjectKey, claim: &PersistentVolumeClaim) {
        self.claims.entry(key.namespace.clone()).or_default().insert(key.name.clone(), Claim::of(claim));
    }

    pub fn remove_claim(&mut self, key: &ObjectKey) {
        if let Some(claims) = self.claims.get_mut(&key.namespace) {
            claims.remove(&key.name);
        }
    }

    pub fn put_volume(&mut self, key: &ObjectKey, volume: &PersistentVolume) {
        let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
        let nodes = RequiredNodes::of(None, affinity.and_then(|affinity| affinity.required.as_ref()));
        self.volumes.insert(key.name.clone(), Volume { nodes });
    }

    pub fn remove_volume(&mut self, key: &ObjectKey) {
        self.volumes.remove(&key.name);
    }

    pub fn put_class(&mut self, key: &ObjectKey, class: &StorageClass) {
        let class = Class {
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisions: !matches!(class.provisioner.as_str(), "" | NO_PROVISIONER),
            topologies: class.allowed_topologies.clone().unwrap_or_default(),
        };
        self.classes.insert(key.name.clone(), class);
    }

    pub fn remove_class(&mut self, key: &ObjectKey) {
        self.classes.remove(&key.name);
    }
}

impl Claim {
    fn of(claim: &PersistentVolumeClaim) -> Self {
        let metadata = &claim.metadata;
        let spec = claim.spec.as_ref();
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let volume = spec.and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        Self {
            bound: volume.is_some() && phase == Some("Bound"),
            volume,
            lost: phase == Some("Lost"),
            terminating: metadata.deletion_timestamp.is_some(),
            class: spec.and_then(|spec| spec.storage_class_name.clone()).filter(|name| !name.is_empty()),
            selected_node: metadata.annotations.as_ref().and_then(|all| all.get(SELECTED_NODE).cloned()),
            owner: owner.map(|owner| owner.uid.clone()),
        }
    }
}

impl Class {
    /// Whether a volume can be made where the node is.
    pub fn serves(&self, node: &Node) -> bool {
        let matches = |term: &TopologySelectorTerm| {
            let mut expressions = term.match_label_expressions.iter().flatten();
            expressions.all(|expression| {
                node.labels.get(&expression.key).is_some_and(|value| expression.values.contains(value))
            })
        };
        self.topologies.is_empty() || self.topologies.iter().any(matches)
    }
}
