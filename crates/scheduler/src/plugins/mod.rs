//! The table of plugins, in upstream's default order. Adding one is a file and a line.

mod default_preemption;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
pub mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
pub mod priority_sort;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;

use crate::framework::Plugin;

/// All of them. PrioritySort isn't among them, for the queue's order is its type [`priority_sort::Turn`]; neither is
/// DefaultBinder, for there is one way to bind.
pub fn all() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(scheduling_gates::SchedulingGates),
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::NodeResourcesFit),
        Box::new(volume_binding::VolumeBinding),
        Box::new(pod_topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
        Box::new(default_preemption::DefaultPreemption),
        Box::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation),
        Box::new(image_locality::ImageLocality),
    ]
}

#[cfg(test)]
mod tests;
