//! A pod's status from what its containers do, as upstream computes it. A pure function: the worker looks, this tells.

mod conditions;
mod containers;
mod phase;

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::fields::Addresses;
use crate::labels;
use crate::probes::Health;
use crate::qos::Qos;
use crate::runtime::{self, State};

pub use conditions::OWN_CONDITIONS;

/// Why a container isn't running yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

/// Why the kubelet failed a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    /// The pod was never taken in: there is nothing to say of its containers.
    pub refused: bool,
}

/// One start of a container, as the runtime has it.
#[derive(Clone, Debug)]
pub struct Record {
    pub status: runtime::ContainerStatus,
    /// Its termination message.
    pub message: String,
    pub image_id: String,
    pub image: String,
    pub health: Health,
}

impl Record {
    pub fn name(&self) -> &str {
        labels::container_name(&self.status)
    }

    pub fn running(&self) -> bool {
        matches!(self.status.state, State::Running | State::Paused)
    }

    pub fn exited(&self) -> bool {
        self.status.state == State::Exited
    }

    pub fn failed_to_start(&self) -> bool {
        self.status.error.is_some() && self.status.started.is_none()
    }

    /// 128 for one that couldn't be started, as containerd has it; Docker's own codes for that mean less here.
    pub fn exit_code(&self) -> i32 {
        if self.failed_to_start() { 128 } else { self.status.exit_code.unwrap_or(128) }
    }
}

/// What the worker sees of its pod.
pub struct Observed<'a> {
    pub pod: &'a Pod,
    /// Oldest first.
    pub records: &'a [Record],
    pub waiting: &'a HashMap<String, Waiting>,
    pub sandbox_ready: bool,
    pub addresses: &'a Addresses,
    pub failure: Option<&'a Failure>,
    /// All containers have been stopped for good.
    pub ended: bool,
    pub now: Timestamp,
}

/// The latest record of a container, and the one before it.
pub fn latest<'a>(records: &'a [Record], name: &str) -> (Option<&'a Record>, Option<&'a Record>) {
    let mut of = records.iter().rev().filter(|record| record.name() == name);
    (of.next(), of.next())
}

/// The status to report; what others own in the pod's present status is kept.
pub fn compute(observed: &Observed<'_>) -> PodStatus {
    let pod = observed.pod;
    let spec = pod.spec.clone().unwrap_or_default();
    let before = pod.status.clone().unwrap_or_default();
    let mut status = PodStatus {
        start_time: Some(before.start_time.clone().unwrap_or(Time(observed.now))),
        qos_class: Some(before.qos_class.clone().unwrap_or_else(|| Qos::of(&spec).name().to_owned())),
        observed_generation: pod.metadata.generation,
        nominated_node_name: before.nominated_node_name.clone(),
        ..PodStatus::default()
    };
    if let Some(failure) = observed.failure {
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
        if failure.refused {
            status.phase = Some("Failed".into());
            status.conditions = Some(conditions::of_refused(&before, observed));
            return status;
        }
    }
    let (inits, regular) = containers::statuses(&spec, &before, observed);
    let mut phase = phase::of(&spec, &inits, &regular, observed);
    // A pod that was reported done never comes back.
    if let Some(done) = before.phase.as_deref().filter(|phase| matches!(*phase, "Succeeded" | "Failed")) {
        phase = if done == "Failed" { "Failed" } else { "Succeeded" };
    }
    let ip = |ip: &String| PodIP { ip: ip.clone() };
    status.phase = Some(phase.to_owned());
    status.host_ip = Some(observed.addresses.host.clone());
    status.host_ips = Some(vec![HostIP { ip: observed.addresses.host.clone() }]);
    status.pod_ips = match observed.addresses.pod.as_slice() {
        // Whoever is gone had an address once.
        [] => before.pod_ips.clone(),
        addresses => Some(addresses.iter().map(ip).collect()),
    };
    status.pod_ip = status.pod_ips.iter().flatten().next().map(|first| first.ip.clone());
    status.init_container_statuses = (!inits.is_empty()).then_some(inits);
    status.container_statuses = Some(regular);
    let added = containers::added(&spec, &before, observed);
    status.ephemeral_container_statuses = (!added.is_empty()).then_some(added);
    if observed.failure.is_none() && before.phase.as_deref() == Some(phase) {
        status.reason = before.reason.clone();
        status.message = before.message.clone();
    }
    status.conditions = Some(conditions::of(&spec, &status, &before, observed));
    status
}

#[cfg(test)]
mod tests;
