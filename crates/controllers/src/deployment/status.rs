//! What a Deployment's status should say, in upstream's reasons and words.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::view::{Deployment, Set};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of the condition `Progressing` that decide what comes next.
const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// What happened to the newest ReplicaSet.
pub(super) enum News<'a> {
    Created(&'a str),
    Found(&'a str),
    CreateFailed { name: &'a str, why: &'a str },
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    // Times in objects have whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn reason(condition: Option<&DeploymentCondition>) -> &str {
    condition.and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
}

/// A condition of the same status and reason stays as it is; one of the same status keeps the time of its transition.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = get(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    let Some(conditions) = &mut status.conditions else { return };
    conditions.retain(|condition| condition.type_ != kind);
    if conditions.is_empty() {
        status.conditions = None;
    }
}

/// A paused Deployment's progress isn't judged, nor that of one just resumed by the time before.
pub(super) fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let progressing = get(status, PROGRESSING);
    if deployment.progress_deadline().is_none() || reason(progressing) == TIMED_OUT {
        return;
    }
    let was_paused = reason(progressing) == PAUSED;
    let (reason, message) = match (deployment.spec.paused, was_paused) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    set(status, condition(PROGRESSING, "Unknown", reason, message.into(), now));
}

pub(super) fn note_news(deployment: &Deployment, status: &mut DeploymentStatus, news: &News<'_>, now: Timestamp) {
    if deployment.progress_deadline().is_none() {
        return;
    }
    let (is, reason, message) = match news {
        News::Created(name) => ("True", "NewReplicaSetCreated", format!("Created new replica set {name:?}")),
        News::Found(_) if get(status, PROGRESSING).is_some() => return,
        News::Found(name) => ("True", "FoundNewReplicaSet", format!("Found new replica set {name:?}")),
        News::CreateFailed { name, why } => {
            ("False", "ReplicaSetCreateError", format!("Failed to create new replica set {name:?}: {why}"))
        }
    };
    set(status, condition(PROGRESSING, is, reason, message, now));
}

/// `status` with its numbers, and `Available`, brought up to date (upstream's `calculateStatus`).
pub(super) fn counted(
    deployment: &Deployment,
    status: &DeploymentStatus,
    newest: Option<&Set>,
    old: &[Set],
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |number: fn(&Set) -> i32| old.iter().chain(newest).map(number).fold(0i32, i32::saturating_add);
    // Upstream leaves zeros out.
    let some = |number: i32| Some(number).filter(|number| *number != 0);
    let available = sum(Set::available);
    let terminating = old.iter().chain(newest).map(|set| set.status.terminating_replicas).sum::<Option<i32>>();
    let mut next = DeploymentStatus {
        observed_generation: some_generation(deployment),
        replicas: some(sum(|set| set.status.replicas)),
        updated_replicas: some(newest.map_or(0, |set| set.status.replicas)),
        ready_replicas: some(sum(|set| set.status.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((sum(|set| set.replicas) - available).max(0)),
        terminating_replicas: terminating,
        collision_count: status.collision_count,
        conditions: status.conditions.clone(),
    };
    let least = deployment.spec.replicas - deployment.surge_and_unavailable().1;
    let (is, reason, message) = if available >= least {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut next, condition(AVAILABLE, is, reason, message.into(), now));
    next
}

fn some_generation(deployment: &Deployment) -> Option<i64> {
    Some(deployment.object.meta.generation).filter(|generation| *generation != 0)
}

/// The status of a rollout: [`counted`], and whether it gets on (upstream's `syncRolloutStatus`).
pub(super) fn of_rollout(
    deployment: &Deployment,
    before: &DeploymentStatus,
    newest: Option<&Set>,
    old: &[Set],
    now: Timestamp,
) -> DeploymentStatus {
    let mut next = counted(deployment, before, newest, old, now);
    let current = get(before, PROGRESSING).cloned();
    match deployment.progress_deadline() {
        None => remove(&mut next, PROGRESSING),
        // Nothing is being rolled out.
        Some(_) if next.replicas == next.updated_replicas && reason(current.as_ref()) == DONE => {}
        Some(deadline) => {
            note_progress(deployment, before, &mut next, newest, Duration::from_secs(deadline.max(0) as u64), now)
        }
    }
    let failure = |set: &Set| {
        let failures = set.status.conditions.iter().flatten().find(|condition| condition.type_ == REPLICA_FAILURE);
        failures.cloned()
    };
    match newest.into_iter().chain(old).find_map(failure) {
        Some(failure) => set(
            &mut next,
            DeploymentCondition {
                type_: failure.type_,
                status: failure.status,
                reason: failure.reason,
                message: failure.message,
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time,
            },
        ),
        None => remove(&mut next, REPLICA_FAILURE),
    }
    next
}

fn note_progress(
    deployment: &Deployment,
    before: &DeploymentStatus,
    next: &mut DeploymentStatus,
    newest: Option<&Set>,
    deadline: Duration,
    now: Timestamp,
) {
    let what = match newest {
        Some(set) => format!("ReplicaSet {:?}", set.name()),
        None => format!("Deployment {:?}", deployment.name()),
    };
    if is_complete(deployment, next) {
        set(next, condition(PROGRESSING, "True", DONE, format!("{what} has successfully progressed."), now));
    } else if has_progressed(before, next) {
        let mut progress = condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
        if let Some(current) = get(before, PROGRESSING).filter(|current| current.status == "True") {
            progress.last_transition_time = current.last_transition_time.clone();
        }
        // Of the same reason or not: the time of the last progress is what the deadline is counted from.
        remove(next, PROGRESSING);
        set(next, progress);
    } else if overdue_in(next, deadline, now).is_some_and(|left| left < SignedDuration::ZERO) {
        set(next, condition(PROGRESSING, "False", TIMED_OUT, format!("{what} has timed out progressing."), now));
    }
}

/// All pods are the newest set's, and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas;
    [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|n| n.unwrap_or(0) == wanted)
        && status.observed_generation.unwrap_or(0) >= deployment.object.meta.generation
}

fn has_progressed(before: &DeploymentStatus, next: &DeploymentStatus) -> bool {
    let of = |number: Option<i32>| number.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
    of(next.updated_replicas) > of(before.updated_replicas)
        || outdated(next) < outdated(before)
        || of(next.ready_replicas) > of(before.ready_replicas)
        || of(next.available_replicas) > of(before.available_replicas)
}

/// How long it is until the rollout is late; negative when it is, `None` when it can't be.
fn overdue_in(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> Option<SignedDuration> {
    let progressing =
        get(status, PROGRESSING).filter(|progressing| !matches!(reason(Some(progressing)), DONE | TIMED_OUT))?;
    let late = progressing.last_update_time.as_ref()?.0.saturating_add(deadline).ok()?;
    Some(late.duration_since(now))
}

/// When a rollout that stands still must be looked at again.
pub(super) fn check_in(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = Duration::from_secs(u64::try_from(deployment.progress_deadline()?).unwrap_or(0));
    if is_complete(deployment, status) {
        return None;
    }
    let left = overdue_in(status, deadline, now)?;
    // A second more, for times in objects are whole seconds.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
