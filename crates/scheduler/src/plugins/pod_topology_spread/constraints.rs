//! A pod's constraints with their selectors read, or those that stand in for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use tug_api::Selector;

use super::HOSTNAME;
use crate::cache::Others;
use crate::framework::Cycle;
use crate::node::Node;
use crate::pod::{self, PodInfo};
use crate::taints;
use crate::tally::Tally;

pub const DO_NOT_SCHEDULE: &str = "DoNotSchedule";
pub const SCHEDULE_ANYWAY: &str = "ScheduleAnyway";

pub struct Constraint {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: i32,
    /// `None` selects nothing.
    selector: Option<Selector>,
    /// Nodes that the pod's affinity rules out don't count.
    honors_affinity: bool,
    /// Nodes whose taints the pod doesn't tolerate don't count.
    honors_taints: bool,
}

/// The constraints of the pod with this `whenUnsatisfiable`. A pod with none at all has the system's, which are soft.
///
/// # Errors
/// If a selector can't be read.
pub fn of(pod: &PodInfo, others: &Others, action: &str) -> Result<Vec<Constraint>, String> {
    let own = &pod.wishes().spread;
    if !own.is_empty() {
        let with_action = own.iter().filter(|constraint| constraint.when_unsatisfiable == action);
        return with_action.map(|constraint| Constraint::of(constraint, pod)).collect();
    }
    if action == DO_NOT_SCHEDULE {
        return Ok(Vec::new());
    }
    let selector = default_selector(pod, others);
    if selector.is_empty() {
        return Ok(Vec::new());
    }
    let soft = |key: &str, max_skew| Constraint {
        topology_key: key.into(),
        max_skew,
        min_domains: 1,
        selector: Some(selector.clone()),
        honors_affinity: true,
        honors_taints: false,
    };
    Ok(vec![soft(HOSTNAME, 3), soft("topology.kubernetes.io/zone", 5)])
}

/// The pods of the Services and the workload that the pod belongs to.
fn default_selector(pod: &PodInfo, others: &Others) -> Selector {
    let namespace = &pod.key.namespace;
    let services = others.services.get(namespace).into_iter().flat_map(BTreeMap::values);
    let mut selector = Selector::default();
    for service in services.filter(|service| service.matches(&pod.labels)) {
        selector = selector.and(service);
    }
    let Some((_, kind, name)) = &pod.wishes().controller else { return selector };
    let workload = others.workloads.get(kind.as_str()).and_then(|all| all.get(namespace)?.get(name));
    match workload {
        Some(workload) => selector.and(workload),
        None => selector,
    }
}

impl Constraint {
    fn of(constraint: &TopologySpreadConstraint, pod: &PodInfo) -> Result<Self, String> {
        let mut selector = pod::selector(constraint.label_selector.as_ref())?;
        let keys = constraint.match_label_keys.iter().flatten();
        let labels: BTreeMap<_, _> = keys.filter_map(|key| Some((key.clone(), pod.labels.get(key)?.clone()))).collect();
        if !labels.is_empty() {
            selector = selector.map(|selector| Selector::from_labels(&labels).and(&selector));
        }
        Ok(Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1),
            selector,
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        })
    }

    pub fn honors_taints(&self) -> bool {
        self.honors_taints
    }

    pub fn selects(&self, pod: &PodInfo) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }

    /// Whether the node's pods count.
    pub fn includes(&self, pod: &PodInfo, node: &Node) -> bool {
        let wishes = pod.wishes();
        (!self.honors_affinity || wishes.required_nodes.matches(node))
            && (!self.honors_taints || taints::admitted(&node.taints, &wishes.tolerations))
    }

    /// The selected pods of the pod's namespace; `None` for none.
    pub fn tally(&self, cycle: Cycle<'_>) -> Option<Arc<Tally>> {
        let selector = self.selector.as_ref().filter(|selector| !selector.is_empty())?;
        Some(cycle.cache.tally(&cycle.pod.key.namespace, selector))
    }
}
