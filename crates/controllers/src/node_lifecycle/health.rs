//! When a node was last heard of, and what is said of one that fell silent.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

pub(super) const READY: &str = "Ready";

/// Conditions that nobody can vouch for while the kubelet is silent.
const KUBELETS: [&str; 4] = [READY, "MemoryPressure", "DiskPressure", "PIDPressure"];

/// One node's signs of life. Their time is this process's own: clocks of nodes may differ.
#[derive(Debug)]
pub(super) struct Health {
    pub heard: Instant,
    /// The kubelet's newest heartbeat in the node's status.
    pub heartbeat: Option<Time>,
    /// As last seen: others are looked at again when it changes.
    pub is_ready: bool,
}

pub(super) fn ready(node: &Node) -> Option<&NodeCondition> {
    condition(node, READY)
}

pub(super) fn is_ready(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "True")
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

impl Health {
    /// Of a node seen for the first time: one that has never said how it is, nor taken a lease, counts from its making.
    pub fn new(node: &Node, has_lease: bool, now: Instant, wall: &Time) -> Self {
        let age = match (ready(node), &node.metadata.creation_timestamp) {
            (None, Some(made)) if !has_lease => Duration::try_from(wall.0.duration_since(made.0)).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let heard = now.checked_sub(age).unwrap_or(now);
        Self { heard, heartbeat: ready(node).and_then(|ready| ready.last_heartbeat_time.clone()), is_ready: false }
    }

    /// A newer heartbeat in the status is a sign of life.
    pub fn see(&mut self, node: &Node, now: Instant) {
        let heartbeat = ready(node).and_then(|ready| ready.last_heartbeat_time.clone());
        if heartbeat.is_some() && heartbeat != self.heartbeat {
            self.heard = now;
            self.heartbeat = heartbeat;
        }
    }
}

/// The conditions that change when the node has been silent for too long (upstream's `tryUpdateNodeHealth`).
pub(super) fn unknown(node: &Node, now: &Time) -> Vec<NodeCondition> {
    let unknown = |kind: &str| {
        let Some(held) = condition(node, kind) else {
            return Some(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(now.clone()),
            });
        };
        (held.status != "Unknown").then(|| NodeCondition {
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            message: Some("Kubelet stopped posting node status.".into()),
            last_transition_time: Some(now.clone()),
            ..held.clone()
        })
    };
    KUBELETS.into_iter().filter_map(unknown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(conditions: Value) -> Node {
        let node = json!({
            "metadata": { "name": "n", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "conditions": conditions },
        });
        serde_json::from_value(node).expect("a node")
    }

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
    }

    /// Expected from upstream's `TestMonitorNodeHealthUpdateStatus`.
    #[test]
    fn what_is_not_heard_of_is_unknown() {
        let said =
            |status: &str| json!({ "type": "Ready", "status": status, "lastHeartbeatTime": "2026-01-01T00:00:05Z" });
        let now = at(2_000_000_000);
        let never = unknown(&node(json!([])), &now);
        let types: Vec<&str> = never.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]);
        for condition in &never {
            assert_eq!(condition.reason.as_deref(), Some("NodeStatusNeverUpdated"));
            assert_eq!(condition.message.as_deref(), Some("Kubelet never posted node status."));
            assert_eq!(condition.last_heartbeat_time, node(json!([])).metadata.creation_timestamp);
        }
        let stopped = unknown(&node(json!([said("True")])), &now);
        assert_eq!((stopped[0].status.as_str(), stopped[0].reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
        assert_eq!(stopped[0].message.as_deref(), Some("Kubelet stopped posting node status."));
        assert_eq!(stopped[0].last_transition_time, Some(now.clone()));
        assert_ne!(stopped[0].last_heartbeat_time, Some(now.clone()));
        let again = unknown(&node(json!([said("Unknown")])), &now);
        assert!(again.iter().all(|condition| condition.type_ != "Ready"), "{again:?}");
    }

    #[test]
    fn heartbeats_and_the_making_are_signs_of_life() {
        let start = Instant::now() + Duration::from_secs(1000);
        let ready = |beat: &str| node(json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": beat }]));
        let first = ready("2026-01-01T00:00:05Z");
        let created = first.metadata.creation_timestamp.as_ref().expect("set").0.as_second();
        // Whatever the node's own clock says, it was heard of just now.
        let mut health = Health::new(&first, false, start, &at(created + 500));
        assert_eq!(health.heard, start);
        let later = start + Duration::from_secs(9);
        health.see(&first, later);
        assert_eq!(health.heard, start, "the same again is no sign of life");
        health.see(&ready("2026-01-01T00:00:15Z"), later);
        assert_eq!(health.heard, later);
        for (has_lease, age) in [(false, 20), (true, 0)] {
            let silent = Health::new(&node(json!([])), has_lease, start, &at(created + 20));
            assert_eq!(silent.heard, start - Duration::from_secs(age));
        }
    }
}
