//! NodeUnschedulable: nodes that are cordoned, unless the pod tolerates that as a taint.

use crate::change::{Change, Kinds, Subject};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::taints;

pub struct NodeUnschedulable;

struct OnlySchedulable;

fn tolerates(pod: &PodInfo) -> bool {
    taints::tolerated(&pod.wishes().tolerations, "node.kubernetes.io/unschedulable", "", taints::NO_SCHEDULE)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if tolerates(cycle.pod) { PreFilter::Skip } else { PreFilter::Filter(Box::new(OnlySchedulable)) }
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD | Kinds::NODE_TAINT | Kinds::POD_TOLERATION
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        match &change.subject {
            Subject::Node { old, new: Some(new) } => {
                !new.unschedulable && old.as_ref().is_none_or(|old| old.unschedulable)
            }
            Subject::Pod { new: Some(new), .. } => new.uid == pod.uid && tolerates(new),
            _ => false,
        }
    }
}

impl Filter for OnlySchedulable {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.node().unschedulable {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}
