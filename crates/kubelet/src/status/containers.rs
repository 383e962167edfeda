//! The statuses of a pod's containers (upstream's `convertToAPIContainerStatuses`).

use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observed, Record, latest};
use crate::labels;
use crate::pod::{self, init_containers, is_sidecar};
use crate::runtime::State;

/// Of init containers in their order, and of the others by name.
pub fn statuses(
    spec: &PodSpec,
    before: &PodStatus,
    observed: &Observed<'_>,
) -> (Vec<ContainerStatus>, Vec<ContainerStatus>) {
    let of = |containers: &[Container], old: &Option<Vec<ContainerStatus>>, init| -> Vec<ContainerStatus> {
        let old = |name: &str| old.iter().flatten().find(|old| old.name == name);
        containers.iter().map(|container| status(container, old(&container.name), observed, init)).collect()
    };
    let mut inits = of(init_containers(spec), &before.init_container_statuses, true);
    let mut regular = of(&spec.containers, &before.container_statuses, false);
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    if observed.ended {
        let initialized = inits.is_empty()
            || regular.iter().any(has_started)
            || inits.last().is_some_and(|last| last.ready || last.started == Some(true));
        if initialized {
            regular.iter_mut().for_each(settle);
        }
        let reached = inits.iter().rposition(has_started).unwrap_or(0);
        inits.iter_mut().take(reached + 1).for_each(settle);
    }
    (inits, regular)
}

/// Of those added to look into the pod, by name: nobody asks whether they are ready.
pub fn added(spec: &PodSpec, before: &PodStatus, observed: &Observed<'_>) -> Vec<ContainerStatus> {
    let old = |name: &str| before.ephemeral_container_statuses.iter().flatten().find(|old| old.name == name);
    let containers = pod::ephemeral_containers(spec);
    let statuses = containers.iter().map(|(container, _)| status(container, old(&container.name), observed, false));
    let mut all: Vec<ContainerStatus> =
        statuses.map(|status| ContainerStatus { ready: false, started: None, ..status }).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn has_started(status: &ContainerStatus) -> bool {
    let waits = status.state.as_ref().is_none_or(|state| state.waiting.is_some());
    !waits || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
}

/// Nothing in a pod that has ended waits or runs: what isn't known to have ended counts as failed.
fn settle(status: &mut ContainerStatus) {
    if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
        status.state = Some(lost("The container could not be located when the pod was terminated"));
    }
}

fn status(
    container: &Container,
    old: Option<&ContainerStatus>,
    observed: &Observed<'_>,
    init: bool,
) -> ContainerStatus {
    let (record, earlier) = latest(observed.records, &container.name);
    let mut status = match record {
        Some(record) => of_record(container, record, earlier, old, observed, init),
        None => without_record(container, old, observed, init),
    };
    status.volume_mounts = volume_mounts(container);
    let Some(waiting) = observed.waiting.get(&container.name) else { return status };
    let state = status.state.take().unwrap_or_default();
    if state.running.is_some() {
        status.state = Some(state);
        return status;
    }
    if state.terminated.is_some() {
        status.last_state = Some(state);
    }
    status.ready = false;
    status.state = Some(waits(Some(waiting.reason), &waiting.message));
    status
}

fn of_record(
    container: &Container,
    record: &Record,
    earlier: Option<&Record>,
    old: Option<&ContainerStatus>,
    observed: &Observed<'_>,
    init: bool,
) -> ContainerStatus {
    let old_count = old.map_or(0, |old| old.restart_count);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        container_id: Some(container_id(&record.status.id)),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        restart_count: labels::restart_count(&record.status).max(old_count),
        last_state: earlier.filter(|earlier| earlier.exited()).map(terminated),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: Some(container.resources.clone().unwrap_or_default()),
        user: record.status.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: Some(user.groups.iter().map(|group| i64::from(*group)).collect()),
            }),
        }),
        started: Some(false),
        ..ContainerStatus::default()
    };
    if status.last_state.is_none() {
        status.last_state = old.and_then(|old| old.last_state.clone());
    }
    if status.image.is_empty() {
        status.image = container.image.clone().unwrap_or_default();
    }
    let long_lived = !init || is_sidecar(container);
    status.state = Some(match record.status.state {
        State::Running | State::Paused => {
            status.started = Some(record.health.started);
            status.ready = long_lived && record.health.started && record.health.ready && !observed.ended;
            let running = ContainerStateRunning { started_at: record.status.started.map(time) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        State::Exited => {
            status.ready = !long_lived && record.exit_code() == 0;
            terminated(record)
        }
        State::Created => waits(None, ""),
    });
    status
}

/// What an earlier kubelet, or this one, reported of a container that the runtime no longer has.
fn without_record(
    container: &Container,
    old: Option<&ContainerStatus>,
    observed: &Observed<'_>,
    init: bool,
) -> ContainerStatus {
    let terminated = |old: &&ContainerStatus| old.state.as_ref().is_some_and(|state| state.terminated.is_some());
    if let Some(old) = old.filter(terminated) {
        return old.clone();
    }
    let has_inits = observed.pod.spec.as_ref().is_some_and(|spec| !init_containers(spec).is_empty());
    let reason = if has_inits { "PodInitializing" } else { "ContainerCreating" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: old.map_or(0, |old| old.restart_count),
        last_state: old.and_then(|old| old.last_state.clone()),
        state: Some(waits(Some(reason), "")),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let ran = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
    if ran && status.last_state.as_ref().is_none_or(|last| last.terminated.is_none()) {
        // Not pending: it ran, and what became of it is lost.
        let message = "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(lost(message));
        status.restart_count += i32::from(observed.pod.metadata.deletion_timestamp.is_none());
    }
    let regular = || observed.pod.spec.iter().flat_map(|spec| &spec.containers);
    if init
        && !is_sidecar(container)
        && regular().any(|container| latest(observed.records, &container.name).0.is_some())
    {
        let completed = ContainerStateTerminated {
            exit_code: 0,
            reason: Some("Completed".into()),
            message: Some("Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".into()),
            ..ContainerStateTerminated::default()
        };
        status.state = Some(ContainerState { terminated: Some(completed), ..ContainerState::default() });
        status.ready = true;
    }
    status
}

/// `tug://<id>`.
pub fn container_id(id: &str) -> String {
    format!("tug://{id}")
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
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
    (!mounts.is_empty()).then_some(mounts)
}

fn waits(reason: Option<&str>, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: reason.map(str::to_owned), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn lost(message: &str) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn terminated(record: &Record) -> ContainerState {
    let status = &record.status;
    let reason = match record.exit_code() {
        _ if status.oom_killed => "OOMKilled",
        _ if record.failed_to_start() => "StartError",
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

/// To the second, as the API keeps it.
fn time(time: SystemTime) -> Time {
    Time(Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH))
}
