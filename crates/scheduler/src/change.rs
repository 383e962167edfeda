//! What happens in the cluster, in the terms in which plugins say what may help a pod that they turned away.

use std::ops::BitOr;
use std::sync::Arc;

use tug_api::ObjectKey;

use crate::node::Node;
use crate::pod::PodInfo;

/// A set of kinds of changes, by upstream's names for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const NODE_ADD: Self = Self(1);
    pub const NODE_DELETE: Self = Self(1 << 1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 2);
    pub const NODE_LABEL: Self = Self(1 << 3);
    /// Also of a node that became schedulable.
    pub const NODE_TAINT: Self = Self(1 << 4);
    /// Of a pod that has a node, as the next one.
    pub const POD_ADD: Self = Self(1 << 5);
    pub const POD_DELETE: Self = Self(1 << 6);
    pub const POD_LABEL: Self = Self(1 << 7);
    pub const POD_SCALE_DOWN: Self = Self(1 << 8);
    pub const POD_TOLERATION: Self = Self(1 << 9);
    pub const POD_GATES_GONE: Self = Self(1 << 10);
    /// Of a claim that is there, as the next two of theirs.
    pub const CLAIM: Self = Self(1 << 11);
    pub const VOLUME: Self = Self(1 << 12);
    pub const CLASS: Self = Self(1 << 13);

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One change, with what there was and what there is.
#[derive(Clone)]
pub struct Change {
    pub kinds: Kinds,
    pub subject: Subject,
}

#[derive(Clone)]
pub enum Subject {
    Node {
        old: Option<Arc<Node>>,
        new: Option<Arc<Node>>,
    },
    Pod {
        old: Option<Arc<PodInfo>>,
        new: Option<Arc<PodInfo>>,
    },
    Claim(ObjectKey),
    /// A volume or a storage class.
    Storage,
}

impl Change {
    pub fn node(old: Option<Arc<Node>>, new: Option<Arc<Node>>) -> Self {
        let kinds = match (&old, &new) {
            (Some(old), Some(new)) => between_nodes(old, new),
            (None, Some(_)) => Kinds::NODE_ADD,
            (Some(_), None) => Kinds::NODE_DELETE,
            (None, None) => Kinds::NONE,
        };
        Self { kinds, subject: Subject::Node { old, new } }
    }

    /// Of a pod that has a node, or had one.
    pub fn pod(old: Option<Arc<PodInfo>>, new: Option<Arc<PodInfo>>) -> Self {
        let kinds = match (&old, &new) {
            (Some(old), Some(new)) => between_pods(old, new),
            (None, Some(_)) => Kinds::POD_ADD,
            (Some(_), None) => Kinds::POD_DELETE,
            (None, None) => Kinds::NONE,
        };
        Self { kinds, subject: Subject::Pod { old, new } }
    }
}

fn between_nodes(old: &Node, new: &Node) -> Kinds {
    let mut kinds = Kinds::NONE;
    if old.allocatable != new.allocatable || old.allowed_pods != new.allowed_pods {
        kinds = kinds | Kinds::NODE_ALLOCATABLE;
    }
    if old.labels != new.labels {
        kinds = kinds | Kinds::NODE_LABEL;
    }
    if old.taints != new.taints || (old.unschedulable && !new.unschedulable) {
        kinds = kinds | Kinds::NODE_TAINT;
    }
    kinds
}

fn between_pods(old: &PodInfo, new: &PodInfo) -> Kinds {
    let mut kinds = Kinds::NONE;
    if old.labels != new.labels {
        kinds = kinds | Kinds::POD_LABEL;
    }
    if asks_less(old, new) {
        kinds = kinds | Kinds::POD_SCALE_DOWN;
    }
    if let (Some(old), Some(new)) = (&old.wishes, &new.wishes) {
        if old.tolerations.len() != new.tolerations.len() {
            kinds = kinds | Kinds::POD_TOLERATION;
        }
        if !old.gates.is_empty() && new.gates.is_empty() {
            kinds = kinds | Kinds::POD_GATES_GONE;
        }
    }
    kinds
}

fn asks_less(old: &PodInfo, new: &PodInfo) -> bool {
    let (old, new) = (&old.requests.resources, &new.requests.resources);
    old.milli_cpu > new.milli_cpu
        || old.memory > new.memory
        || old.ephemeral_storage > new.ephemeral_storage
        || old.scalars.iter().any(|(name, amount)| *amount > new.scalar(name))
}
