//! A pod's status from what its containers do, as upstream computes it. A pure function: the worker looks, this tells.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::fields::Addresses;
use crate::labels;
use crate::pod::{host_network, init_containers, is_sidecar, restart_policy};
use crate::probes::Health;
use crate::qos::Qos;
use crate::runtime::{self, State};

/// Why a container isn't running yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
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

    pub fn exit_code(&self) -> i32 {
        self.status.exit_code.unwrap_or(128)
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
    /// Set when the kubelet ended the pod or refused it: reason and message.
    pub failure: Option<(&'a str, &'a str)>,
    /// All containers have been stopped for good.
    pub ended: bool,
    pub now: Timestamp,
}

/// Conditions that the kubelet sets.
pub const OWN_CONDITIONS: &[&str] =
    &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

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
    let initialized = init_containers(&spec).iter().all(|container| init_done(container, observed));
    let inits: Vec<ContainerStatus> =
        init_containers(&spec).iter().map(|container| container_status(container, observed, true)).collect();
    let regular: Vec<ContainerStatus> =
        spec.containers.iter().map(|container| container_status(container, observed, false)).collect();
    let mut phase = phase(&spec, &inits, &regular, observed);
    // A pod that was reported done never comes back.
    if let Some(done) = before.phase.as_deref().filter(|phase| matches!(*phase, "Succeeded" | "Failed")) {
        phase = if done == "Failed" { "Failed" } else { "Succeeded" };
    }
    let started = before.start_time.clone().unwrap_or(Time(observed.now));
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: Some(observed.addresses.host.clone()),
        host_ips: Some(vec![HostIP { ip: observed.addresses.host.clone() }]),
        pod_ip: observed.addresses.pod.first().cloned(),
        pod_ips: (!observed.addresses.pod.is_empty())
            .then(|| observed.addresses.pod.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: Some(started),
        qos_class: Some(before.qos_class.clone().unwrap_or_else(|| Qos::of(&spec).name().to_owned())),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(regular),
        observed_generation: pod.metadata.generation,
        nominated_node_name: before.nominated_node_name.clone(),
        ..PodStatus::default()
    };
    match observed.failure {
        Some((reason, message)) => {
            status.reason = Some(reason.to_owned());
            status.message = Some(message.to_owned());
        }
        None if phase == "Failed" => {
            status.reason = before.reason.clone();
            status.message = before.message.clone();
        }
        None => {}
    }
    status.conditions = Some(conditions(&spec, &status, &before, initialized, observed));
    status
}

/// Upstream's `getPhase`.
fn phase(
    spec: &PodSpec,
    inits: &[ContainerStatus],
    regular: &[ContainerStatus],
    observed: &Observed<'_>,
) -> &'static str {
    if observed.failure.is_some() {
        return "Failed";
    }
    let state = |status: &ContainerStatus| status.state.clone().unwrap_or_default();
    let last = |status: &ContainerStatus| status.last_state.as_ref().and_then(|last| last.terminated.clone());
    let (mut pending_init, mut failed_init) = (0, 0);
    for (container, status) in init_containers(spec).iter().zip(inits) {
        let state = state(status);
        if is_sidecar(container) {
            let up = status.started == Some(true) || state.terminated.is_some();
            pending_init += i32::from(!up && last(status).is_none() && !observed.ended);
        } else if let Some(ended) = state.terminated {
            failed_init += i32::from(ended.exit_code != 0);
        } else if let (Some(_), Some(ended)) = (&state.waiting, last(status)) {
            failed_init += i32::from(ended.exit_code != 0);
        } else {
            pending_init += 1;
        }
    }
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in regular {
        let state = state(status);
        if state.running.is_some() {
            running += 1;
        } else if let Some(ended) = state.terminated {
            stopped += 1;
            succeeded += i32::from(ended.exit_code == 0);
        } else if last(status).is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    if failed_init > 0 && restart_policy(spec) == "Never" {
        return "Failed";
    }
    if observed.ended {
        return if stopped == succeeded && waiting == 0 && failed_init == 0 { "Succeeded" } else { "Failed" };
    }
    if pending_init > 0 || failed_init > 0 || waiting > 0 {
        return "Pending";
    }
    match restart_policy(spec) {
        _ if running > 0 || stopped == 0 => "Running",
        "Always" => "Running",
        _ if stopped == succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
}

/// Whether the containers after this init container may start.
fn init_done(container: &Container, observed: &Observed<'_>) -> bool {
    let (record, _) = latest(observed.records, &container.name);
    // Init containers may have been removed long after they were done: later ones prove it.
    let later = observed.pod.spec.iter().flat_map(|spec| &spec.containers);
    let passed = later.into_iter().any(|later| latest(observed.records, &later.name).0.is_some());
    match record {
        Some(record) if is_sidecar(container) => (record.running() && record.health.started) || passed,
        Some(record) => (record.exited() && record.exit_code() == 0) || passed,
        None => passed,
    }
}

fn container_status(container: &Container, observed: &Observed<'_>, init: bool) -> ContainerStatus {
    let (record, before) = latest(observed.records, &container.name);
    let waiting = observed.waiting.get(&container.name);
    let has_inits = observed.pod.spec.as_ref().is_some_and(|spec| !init_containers(spec).is_empty());
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    if let Some(record) = record {
        status.container_id = Some(container_id(&record.status.id));
        status.image = if record.image.is_empty() { status.image } else { record.image.clone() };
        status.image_id = record.image_id.clone();
        status.restart_count = labels::restart_count(&record.status);
        status.last_state = before.filter(|before| before.exited()).map(terminated);
        status.stop_signal = None;
        if record.running() {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: record.status.started.map(time) }),
                ..ContainerState::default()
            });
            let long_lived = !init || is_sidecar(container);
            status.started = Some(long_lived && record.health.started);
            status.ready = long_lived && record.health.started && record.health.ready;
        } else if record.exited() && waiting.is_none() {
            status.state = Some(terminated(record));
            status.ready = init && !is_sidecar(container) && record.exit_code() == 0;
        } else if record.exited() {
            status.last_state = Some(terminated(record));
        }
        set_allocation(&mut status, container);
    }
    if status.state.is_none() {
        status.state = Some(match waiting {
            _ if observed.ended => lost(),
            Some(waiting) => waits(waiting.reason, &waiting.message),
            None if has_inits => waits("PodInitializing", ""),
            None => waits("ContainerCreating", ""),
        });
    }
    status
}

/// `tug://<id>`.
pub fn container_id(id: &str) -> String {
    format!("tug://{id}")
}

/// What upstream reports since resources can be resized, and of mounts since they can be read-only in depth.
fn set_allocation(status: &mut ContainerStatus, container: &Container) {
    if let Some(resources) = &container.resources {
        status.allocated_resources = resources.requests.clone();
        status.resources = Some(resources.clone());
    }
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    status.volume_mounts = (!mounts.is_empty()).then_some(mounts);
}

fn waits(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn lost() -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn terminated(record: &Record) -> ContainerState {
    let status = &record.status;
    let failed_to_start = status.error.is_some() && status.started.is_none();
    let reason = match record.exit_code() {
        _ if status.oom_killed => "OOMKilled",
        _ if failed_to_start => "StartError",
        0 => "Completed",
        _ => "Error",
    };
    let message = if record.message.is_empty() { status.error.clone() } else { Some(record.message.clone()) };
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(&status.id)),
        exit_code: record.exit_code(),
        reason: Some(reason.to_owned()),
        message,
        signal: None,
        started_at: Some(status.started.map_or(Time(Timestamp::UNIX_EPOCH), time)),
        finished_at: Some(time(status.finished.unwrap_or(SystemTime::UNIX_EPOCH))),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn time(time: SystemTime) -> Time {
    Time(Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Those that the kubelet owns, and the others as they were.
fn conditions(
    spec: &PodSpec,
    status: &PodStatus,
    before: &PodStatus,
    initialized: bool,
    observed: &Observed<'_>,
) -> Vec<PodCondition> {
    let done = match status.phase.as_deref() {
        Some("Succeeded") => Some("PodCompleted"),
        Some("Failed") => Some("PodFailed"),
        _ => None,
    };
    let has_address = host_network(spec) || !observed.addresses.pod.is_empty();
    let mut new = vec![condition("PodReadyToStartContainers", observed.sandbox_ready && has_address, None)];
    new.push(match done {
        Some("PodCompleted") => condition("Initialized", true, Some(("PodCompleted", String::new()))),
        _ if initialized && observed.failure.is_none_or(|_| !observed.records.is_empty()) => {
            condition("Initialized", true, None)
        }
        _ => {
            let names = init_containers(spec).iter().filter(|container| !init_done(container, observed));
            let message = format!("containers with incomplete status: {}", list(names.map(|c| c.name.as_str())));
            condition("Initialized", false, Some(("ContainersNotInitialized", message)))
        }
    });
    let sidecars = init_containers(spec).iter().filter(|container| is_sidecar(container)).map(|c| c.name.as_str());
    let counted: Vec<&str> = sidecars.chain(spec.containers.iter().map(|container| container.name.as_str())).collect();
    let statuses = [&status.init_container_statuses, &status.container_statuses];
    let unready: Vec<&str> = statuses
        .into_iter()
        .flatten()
        .flatten()
        .filter(|status| counted.contains(&status.name.as_str()) && !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    let containers_ready = match done {
        Some(reason) => condition("ContainersReady", false, Some((reason, String::new()))),
        None if unready.is_empty() => condition("ContainersReady", true, None),
        None => {
            let message = format!("containers with unready status: {}", list(unready.into_iter()));
            condition("ContainersReady", false, Some(("ContainersNotReady", message)))
        }
    };
    new.push(ready(spec, before, &containers_ready));
    new.push(containers_ready);
    new.push(condition("PodScheduled", true, None));
    let mut all: Vec<PodCondition> = Vec::new();
    for mut condition in new {
        let known = before.conditions.iter().flatten().find(|known| known.type_ == condition.type_);
        condition.observed_generation = observed.pod.metadata.generation;
        condition.last_transition_time = match known {
            Some(known) if known.status == condition.status => known.last_transition_time.clone(),
            _ => Some(Time(observed.now)),
        };
        all.push(condition);
    }
    let foreign = before.conditions.iter().flatten().filter(|known| !all.iter().any(|own| own.type_ == known.type_));
    let foreign: Vec<PodCondition> = foreign.cloned().collect();
    all.extend(foreign);
    all
}

/// Ready: the containers are, and so says every readiness gate.
fn ready(spec: &PodSpec, before: &PodStatus, containers_ready: &PodCondition) -> PodCondition {
    if containers_ready.status != "True" {
        return PodCondition { type_: "Ready".into(), ..containers_ready.clone() };
    }
    let problems: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match before.conditions.iter().flatten().find(|known| known.type_ == *name) {
                None => Some(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
                Some(known) if known.status != "True" => {
                    Some(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", known.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if problems.is_empty() {
        return condition("Ready", true, None);
    }
    condition("Ready", false, Some(("ReadinessGatesNotReady", problems.join(", "))))
}

fn condition(kind: &str, status: bool, why: Option<(&str, String)>) -> PodCondition {
    let (reason, message) = why
        .map_or((None, None), |(reason, message)| (Some(reason.to_owned()), (!message.is_empty()).then_some(message)));
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason,
        message,
        ..PodCondition::default()
    }
}

/// As Go prints a slice of strings.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", names.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
