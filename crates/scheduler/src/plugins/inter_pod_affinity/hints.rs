//! Which changes may bring wanted neighbours or take unwanted ones away.

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
    let wanted = |other: &PodInfo| {
        let near = pod.required_affinity();
        !near.is_empty() && near.iter().all(|term| may_match(term, other))
    };
    let unwanted = |other: &PodInfo| pod.required_anti_affinity().iter().any(|term| may_match(term, other));
    let unwelcoming = |other: &PodInfo| other.required_anti_affinity().iter().any(|term| may_match(term, pod));
    match (old, new) {
        (Some(_), Some(new)) if new.uid == pod.uid => true,
        (Some(old), Some(new)) => (!wanted(old) && wanted(new)) || (unwanted(old) && !unwanted(new)),
        (None, Some(new)) => wanted(new),
        (Some(gone), None) => unwanted(gone) || unwelcoming(gone),
        (None, None) => false,
    }
}

/// Whether a namespace that is selected by its labels is, isn't looked up here: a try too many does no harm.
fn may_match(term: &AffinityTerm, pod: &PodInfo) -> bool {
    term.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
        && (term.namespace_selector.is_some() || term.namespaces.contains(&pod.key.namespace))
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
