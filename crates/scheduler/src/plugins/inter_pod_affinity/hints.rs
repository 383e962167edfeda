//! Which changes may bring wanted neighbours or take unwanted ones away.

use super::matches_all;
use crate::change::{Change, Subject};
use crate::node::Node;
use crate::pod::{AffinityTerm, PodInfo};

pub fn helps(pod: &PodInfo, change: &Change) -> bool {
    match &change.subject {
        Subject::Pod { old, new } => pod_helps(pod, old.as_deref(), new.as_deref()),
        Subject::Node { old, new: Some(new) } => node_helps(pod, old.as_deref(), new),
        _ => false,
    }
}

fn pod_helps(pod: &PodInfo, old: Option<&PodInfo>, new: Option<&PodInfo>) -> bool {
    let near: Vec<&AffinityTerm> = pod.required_affinity().iter().collect();
    let far: Vec<&AffinityTerm> = pod.required_anti_affinity().iter().collect();
    match (old, new) {
        (Some(_), Some(new)) if new.uid == pod.uid => true,
        (Some(old), Some(new)) => {
            (!matches_all(&near, old) && matches_all(&near, new)) || (matches_all(&far, old) && !matches_all(&far, new))
        }
        (None, Some(new)) => matches_all(&near, new),
        (Some(gone), None) => {
            let theirs: Vec<&AffinityTerm> = gone.required_anti_affinity().iter().collect();
            matches_all(&far, gone) || matches_all(&theirs, pod)
        }
        (None, None) => false,
    }
}

fn node_helps(pod: &PodInfo, old: Option<&Node>, new: &Node) -> bool {
    let near = pod.required_affinity().iter().any(|term| {
        let now = new.labels.get(&term.topology_key);
        now.is_some() && old.is_none_or(|old| old.labels.get(&term.topology_key) != now)
    });
    let far = pod.required_anti_affinity().iter().any(|term| {
        let Some(old) = old else { return true };
        let before = old.labels.get(&term.topology_key);
        before.is_some() && before != new.labels.get(&term.topology_key)
    });
    near || far
}
