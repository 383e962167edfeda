//! Which changes may even things out for a pod that waits.

use std::collections::BTreeMap;

use super::constraints::{self, Constraint};
use crate::cache::Others;
use crate::change::{Change, Subject};
use crate::node::Node;
use crate::pod::PodInfo;

pub fn helps(pod: &PodInfo, change: &Change) -> bool {
    // Hard constraints are the pod's own: nothing else is looked up for them.
    let Ok(constraints) = constraints::of(pod, &Others::default(), constraints::DO_NOT_SCHEDULE) else { return true };
    match &change.subject {
        Subject::Pod { old, new } => pod_helps(pod, old.as_deref(), new.as_deref(), &constraints),
        Subject::Node { old, new } => node_helps(old.as_deref(), new.as_deref(), &constraints),
        _ => false,
    }
}

fn pod_helps(pod: &PodInfo, old: Option<&PodInfo>, new: Option<&PodInfo>, constraints: &[Constraint]) -> bool {
    let involved = |other: &PodInfo| other.uid == pod.uid || other.key.namespace == pod.key.namespace;
    if ![old, new].into_iter().flatten().all(involved) {
        return false;
    }
    let selected = |other: &PodInfo| constraints.iter().any(|constraint| constraint.selects(other));
    match (old, new) {
        (Some(old), Some(new)) => {
            let tolerates_more = new.uid == pod.uid
                && old.wishes.as_ref().zip(new.wishes.as_ref()).is_some_and(|(o, n)| o.tolerations != n.tolerations)
                && constraints.iter().any(Constraint::honors_taints);
            tolerates_more || constraints.iter().any(|constraint| constraint.selects(old) != constraint.selects(new))
        }
        (old, new) => old.or(new).is_some_and(selected),
    }
}

fn node_helps(old: Option<&Node>, new: Option<&Node>, constraints: &[Constraint]) -> bool {
    // One without one of the labels has no part in any of this.
    let takes_part = |node: &Node| constraints.iter().all(|c| node.labels.contains_key(&c.topology_key));
    match (old, new) {
        (Some(old), Some(new)) => {
            let domain = |labels: &BTreeMap<String, String>, constraint: &Constraint| {
                labels.get(&constraint.topology_key).cloned()
            };
            let moved = |constraint: &Constraint| domain(&old.labels, constraint) != domain(&new.labels, constraint);
            takes_part(old) != takes_part(new)
                || (takes_part(new) && (constraints.iter().any(moved) || old.taints != new.taints))
        }
        (old, new) => old.or(new).is_some_and(takes_part),
    }
}
