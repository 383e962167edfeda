//! NodePorts: the host ports that the pod wants must be free.

use crate::change::{Change, Kinds, Subject};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::{HostPort, PodInfo};

pub struct NodePorts;

struct Wanted<'a>(&'a [HostPort]);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        match &cycle.pod.ports[..] {
            [] => PreFilter::Skip,
            ports => PreFilter::Filter(Box::new(Wanted(ports))),
        }
    }

    fn events(&self) -> Kinds {
        Kinds::POD_DELETE | Kinds::NODE_ADD
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        match &change.subject {
            Subject::Pod { old: Some(gone), .. } => conflict(&pod.ports, &gone.ports),
            _ => true,
        }
    }
}

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other)))
}

impl Filter for Wanted<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if conflict(self.0, &node.ports) {
            return Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
