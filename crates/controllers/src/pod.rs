//! What controllers look at in a pod, decoded without the rest.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tug_api::Object;

/// One revision of a pod.
#[derive(Clone)]
pub(crate) struct Pod {
    pub object: Arc<Object>,
    view: Arc<View>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub node_name: String,
    pub hostname: String,
    pub subdomain: String,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub name: String,
    pub restart_policy: String,
    pub ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub name: String,
    pub protocol: String,
    pub container_port: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub phase: String,
    pub conditions: Vec<Condition>,
    pub container_statuses: Vec<ContainerStatus>,
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub name: String,
    pub restart_count: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodIp {
    pub ip: String,
}

// === impl Pod ===

impl AsRef<Object> for Pod {
    fn as_ref(&self) -> &Object {
        &self.object
    }
}

impl Pod {
    /// # Errors
    /// If the object doesn't have a pod's shape.
    pub fn read(object: Arc<Object>) -> Result<Self, serde_json::Error> {
        let view = object.typed()?;
        Ok(Self { object, view })
    }

    pub fn name(&self) -> &str {
        &self.object.key.name
    }

    pub fn uid(&self) -> &str {
        &self.object.meta.uid
    }

    pub fn spec(&self) -> &Spec {
        &self.view.spec
    }

    pub fn status(&self) -> &Status {
        &self.view.status
    }

    /// Has neither ended nor begun to.
    pub fn is_active(&self) -> bool {
        !self.has_ended() && !self.is_deleting()
    }

    pub fn is_terminating(&self) -> bool {
        !self.has_ended() && self.is_deleting()
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.view.status.phase.as_str(), "Succeeded" | "Failed")
    }

    pub fn is_deleting(&self) -> bool {
        self.object.meta.deletion_timestamp.is_some()
    }

    pub fn is_ready(&self) -> bool {
        self.ready_condition().is_some()
    }

    pub fn ready_since(&self) -> Option<Timestamp> {
        self.ready_condition()?.last_transition_time
    }

    fn ready_condition(&self) -> Option<&Condition> {
        self.view.status.conditions.iter().find(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// How long it is until the pod has been ready for `min_ready`: zero if it has, `None` if it isn't ready.
    pub fn available_in(&self, min_ready: Duration, now: Timestamp) -> Option<Duration> {
        let ready = self.ready_condition()?;
        if min_ready.is_zero() {
            return Some(Duration::ZERO);
        }
        let available = ready.last_transition_time?.saturating_add(min_ready).ok()?;
        // Before zero it has passed.
        Some(Duration::try_from(available.duration_since(now)).unwrap_or_default())
    }

    pub fn created(&self) -> Option<Timestamp> {
        self.object.meta.creation_timestamp.as_ref()?.parse().ok()
    }
}
