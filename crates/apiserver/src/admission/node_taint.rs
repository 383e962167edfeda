//! `TaintNodesByCondition`: a new node takes no pods until the node lifecycle controller has seen that it is ready.

use serde_json::{Value, json};

use super::pod_tolerations::list;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

pub(super) fn admit(node: &mut Value) {
    let taints = list(&mut node["spec"], "taints");
    if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == NO_SCHEDULE) {
        taints.push(json!({ "key": NOT_READY, "effect": NO_SCHEDULE }));
    }
}
