//! A pod's conditions: those that the kubelet owns, and the others as they were.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Observed;
use crate::pod::{host_network, init_containers, is_sidecar};

/// Conditions that the kubelet sets.
pub const OWN_CONDITIONS: &[&str] =
    &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

pub fn of(spec: &PodSpec, status: &PodStatus, before: &PodStatus, observed: &Observed<'_>) -> Vec<PodCondition> {
    let done = match status.phase.as_deref() {
        Some("Succeeded") => Some("PodCompleted"),
        Some("Failed") => Some("PodFailed"),
        _ => None,
    };
    let has_address = host_network(spec) || !observed.addresses.pod.is_empty();
    let containers_ready = containers_ready(spec, status, done);
    let new = vec![
        condition("PodReadyToStartContainers", observed.sandbox_ready && has_address, None),
        initialized(spec, status, done),
        ready(spec, before, &containers_ready),
        containers_ready,
        condition("PodScheduled", true, None),
    ];
    dated(new, before, observed)
}

/// Of a pod that was never taken in only that it is here.
pub fn of_refused(before: &PodStatus, observed: &Observed<'_>) -> Vec<PodCondition> {
    dated(vec![condition("PodScheduled", true, None)], before, observed)
}

fn initialized(spec: &PodSpec, status: &PodStatus, done: Option<&str>) -> PodCondition {
    if done == Some("PodCompleted") {
        return condition("Initialized", true, Some(("PodCompleted", String::new())));
    }
    let regular = status.container_statuses.iter().flatten();
    if regular.into_iter().any(started) {
        return condition("Initialized", true, None);
    }
    let statuses = status.init_container_statuses.iter().flatten();
    let incomplete: Vec<&str> = init_containers(spec)
        .iter()
        .zip(statuses)
        .filter(|(container, status)| if is_sidecar(container) { status.started != Some(true) } else { !status.ready })
        .map(|(container, _)| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return condition("Initialized", true, None);
    }
    let message = format!("containers with incomplete status: {}", list(&incomplete));
    condition("Initialized", false, Some(("ContainersNotInitialized", message)))
}

/// Upstream's `HasAnyRegularContainerStarted`.
fn started(status: &ContainerStatus) -> bool {
    let state = status.state.clone().unwrap_or_default();
    let ended = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    state.running.is_some() || state.terminated.is_some() || (state.waiting.is_some() && ended)
}

fn containers_ready(spec: &PodSpec, status: &PodStatus, done: Option<&str>) -> PodCondition {
    if let Some(reason) = done {
        return condition("ContainersReady", false, Some((reason, String::new())));
    }
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let ready = |name: &str| {
        let mut all = lists.into_iter().flatten().flatten();
        all.any(|status| status.name == name && status.ready)
    };
    let sidecars = init_containers(spec).iter().filter(|container| is_sidecar(container));
    let counted = sidecars.chain(&spec.containers).map(|container| container.name.as_str());
    let unready: Vec<&str> = counted.filter(|name| !ready(name)).collect();
    if unready.is_empty() {
        return condition("ContainersReady", true, None);
    }
    let message = format!("containers with unready status: {}", list(&unready));
    condition("ContainersReady", false, Some(("ContainersNotReady", message)))
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

/// With the times of their last change, and with the conditions of others.
fn dated(new: Vec<PodCondition>, before: &PodStatus, observed: &Observed<'_>) -> Vec<PodCondition> {
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
    let foreign = before.conditions.iter().flatten().filter(|known| !OWN_CONDITIONS.contains(&known.type_.as_str()));
    all.extend(foreign.cloned());
    all
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
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}
