//! Cases of upstream's `progress_test.go` and `deployment_util_test.go`.

use serde_json::{Value, json};

use super::super::testing::{deployment, set as replica_set};
use super::*;

const BEFORE: &str = "2030-01-01T00:00:00Z";
const NOW: &str = "2030-01-01T00:10:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn progressing(status: &str, reason: &str, updated: &str) -> Value {
    json!({
        "type": "Progressing", "status": status, "reason": reason, "message": "m",
        "lastUpdateTime": updated, "lastTransitionTime": BEFORE,
    })
}

fn status(numbers: [i32; 4], conditions: &[Value]) -> DeploymentStatus {
    let [replicas, updated, ready, available] = numbers;
    serde_json::from_value(json!({
        "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": available,
        "observedGeneration": 1, "conditions": conditions,
    }))
    .expect("a status")
}

fn sized(name: &str, replicas: i32, ready: i32) -> Set {
    replica_set(
        name,
        &json!({
            "spec": { "replicas": replicas },
            "status": { "replicas": replicas, "readyReplicas": ready, "availableReplicas": ready, "terminatingReplicas": 1 },
        }),
    )
}

fn said(status: &DeploymentStatus, kind: &str) -> Value {
    get(status, kind).map_or(Value::Null, |condition| {
        let time = |time: &Option<Time>| time.as_ref().map(|time| time.0.to_string());
        json!([
            condition.status,
            condition.reason,
            condition.message,
            time(&condition.last_update_time),
            time(&condition.last_transition_time),
        ])
    })
}

#[test]
fn numbers_are_those_of_the_sets() {
    let deployment = deployment(&json!({ "replicas": 5, "metadata": { "generation": 3 } }));
    let counted =
        counted(&deployment, &DeploymentStatus::default(), Some(&sized("new", 3, 1)), &[sized("old", 3, 3)], now());
    let mut value = serde_json::to_value(&counted).expect("JSON");
    value.as_object_mut().expect("fields").remove("conditions");
    let expected = json!({
        "observedGeneration": 3, "replicas": 6, "updatedReplicas": 3, "readyReplicas": 4, "availableReplicas": 4,
        "unavailableReplicas": 2, "terminatingReplicas": 2,
    });
    assert_eq!(value, expected);
    let available = json!(["True", "MinimumReplicasAvailable", "Deployment has minimum availability.", NOW, NOW]);
    assert_eq!(said(&counted, "Available"), available);
}

#[test]
fn availability_allows_for_what_may_be_missing() {
    for (replicas, available, expected) in [(5, 4, "True"), (5, 3, "False"), (0, 0, "True")] {
        let deployment = deployment(&json!({ "replicas": replicas }));
        let next =
            counted(&deployment, &DeploymentStatus::default(), Some(&sized("new", replicas, available)), &[], now());
        assert_eq!(get(&next, AVAILABLE).map(|c| c.status.as_str()), Some(expected), "{replicas} {available}");
    }
}

/// `TestSyncRolloutStatus`.
#[test]
fn a_rollout_progresses_completes_or_times_out() {
    let whole = "ReplicaSet \"new\" has successfully progressed.";
    let goes_on = "ReplicaSet \"new\" is progressing.";
    let late = "ReplicaSet \"new\" has timed out progressing.";
    let just = "2030-01-01T00:09:55Z";
    type Case<'a> = (&'a str, Value, DeploymentStatus, (i32, i32), i32, Value);
    let cases: [Case<'_>; 10] = [
        (
            "without a deadline there is no judgement",
            json!(null),
            status([1, 1, 0, 0], &[progressing("True", "ReplicaSetUpdated", BEFORE)]),
            (1, 0),
            0,
            json!(null),
        ),
        (
            "complete, and said already",
            json!(10),
            status([1, 1, 1, 1], &[progressing("True", DONE, BEFORE)]),
            (1, 1),
            0,
            json!(["True", DONE, "m", BEFORE, BEFORE]),
        ),
        (
            "complete now",
            json!(10),
            status([1, 1, 0, 0], &[progressing("True", "ReplicaSetUpdated", just)]),
            (1, 1),
            0,
            json!(["True", DONE, whole, NOW, BEFORE]),
        ),
        (
            "complete after a timeout",
            json!(10),
            status([1, 1, 0, 0], &[progressing("False", TIMED_OUT, BEFORE)]),
            (1, 1),
            0,
            json!(["True", DONE, whole, NOW, NOW]),
        ),
        (
            "more pods of the new set",
            json!(10),
            status([3, 0, 1, 1], &[progressing("True", "NewReplicaSetCreated", BEFORE)]),
            (2, 0),
            1,
            json!(["True", "ReplicaSetUpdated", goes_on, NOW, BEFORE]),
        ),
        (
            "more ready ones, of the same reason",
            json!(10),
            status([3, 2, 1, 1], &[progressing("True", "ReplicaSetUpdated", just)]),
            (2, 1),
            1,
            json!(["True", "ReplicaSetUpdated", goes_on, NOW, BEFORE]),
        ),
        (
            "no progress, in time",
            json!(10),
            status([3, 2, 1, 1], &[progressing("True", "ReplicaSetUpdated", just)]),
            (2, 0),
            1,
            json!(["True", "ReplicaSetUpdated", "m", just, BEFORE]),
        ),
        (
            "no progress, late",
            json!(10),
            status([3, 2, 1, 1], &[progressing("True", "ReplicaSetUpdated", BEFORE)]),
            (2, 0),
            1,
            json!(["False", TIMED_OUT, late, NOW, NOW]),
        ),
        (
            "late already",
            json!(10),
            status([3, 2, 1, 1], &[progressing("False", TIMED_OUT, BEFORE)]),
            (2, 0),
            1,
            json!(["False", TIMED_OUT, "m", BEFORE, BEFORE]),
        ),
        (
            "a complete one that lost a pod isn't late",
            json!(10),
            status([2, 2, 2, 2], &[progressing("True", DONE, BEFORE)]),
            (2, 1),
            0,
            json!(["True", DONE, "m", BEFORE, BEFORE]),
        ),
    ];
    for (case, deadline, before, (newest, ready), old, expected) in cases {
        let fields =
            json!({ "replicas": newest, "progressDeadlineSeconds": deadline, "metadata": { "generation": 1 } });
        let old = [sized("old", old, old)];
        let next = of_rollout(&deployment(&fields), &before, Some(&sized("new", newest, ready)), &old, now());
        assert_eq!(said(&next, "Progressing"), expected, "{case}");
    }
}

#[test]
fn a_sets_failure_is_the_deployments() {
    let failing = |name: &str, message: &str| {
        replica_set(
            name,
            &json!({ "status": { "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message,
            "lastTransitionTime": BEFORE,
        }] } }),
        )
    };
    let deployment = deployment(&json!({}));
    let of = |newest: Set, old: Set| {
        let next = of_rollout(&deployment, &DeploymentStatus::default(), Some(&newest), &[old], now());
        said(&next, "ReplicaFailure")
    };
    let expected = |message: &str| json!(["True", "FailedCreate", message, BEFORE, BEFORE]);
    assert_eq!(of(failing("new", "newer"), failing("old", "older")), expected("newer"));
    assert_eq!(of(sized("new", 1, 1), failing("old", "older")), expected("older"));
    assert_eq!(of(sized("new", 1, 1), sized("old", 1, 1)), Value::Null);
}

#[test]
fn pausing_and_resuming_are_told() {
    let cases = [
        (true, vec![], json!(["Unknown", "DeploymentPaused", "Deployment is paused", NOW, NOW])),
        (
            true,
            vec![progressing("True", DONE, BEFORE)],
            json!(["Unknown", "DeploymentPaused", "Deployment is paused", NOW, NOW]),
        ),
        (true, vec![progressing("Unknown", PAUSED, BEFORE)], json!(["Unknown", PAUSED, "m", BEFORE, BEFORE])),
        (
            false,
            vec![progressing("Unknown", PAUSED, BEFORE)],
            json!(["Unknown", "DeploymentResumed", "Deployment is resumed", NOW, BEFORE]),
        ),
        (true, vec![progressing("False", TIMED_OUT, BEFORE)], json!(["False", TIMED_OUT, "m", BEFORE, BEFORE])),
        (false, vec![], Value::Null),
    ];
    for (paused, conditions, expected) in cases {
        let deployment = deployment(&json!({ "paused": paused, "progressDeadlineSeconds": 600 }));
        let mut status = status([1, 1, 1, 1], &conditions);
        note_pause(&deployment, &mut status, now());
        assert_eq!(said(&status, "Progressing"), expected, "{paused} {conditions:?}");
    }
}

#[test]
fn news_of_the_newest_set_are_told() {
    let deployment = deployment(&json!({ "progressDeadlineSeconds": 600 }));
    let cases = [
        (
            News::Created("n"),
            vec![],
            json!(["True", "NewReplicaSetCreated", "Created new replica set \"n\"", NOW, NOW]),
        ),
        (News::Found("n"), vec![], json!(["True", "FoundNewReplicaSet", "Found new replica set \"n\"", NOW, NOW])),
        (News::Found("n"), vec![progressing("True", DONE, BEFORE)], json!(["True", DONE, "m", BEFORE, BEFORE])),
        (
            News::CreateFailed { name: "n", why: "quota" },
            vec![progressing("True", DONE, BEFORE)],
            json!(["False", "ReplicaSetCreateError", "Failed to create new replica set \"n\": quota", NOW, NOW]),
        ),
    ];
    for (news, conditions, expected) in cases {
        let mut status = status([1, 1, 1, 1], &conditions);
        note_news(&deployment, &mut status, &news, now());
        assert_eq!(said(&status, "Progressing"), expected);
    }
}

/// `TestRequeueStuckDeployment`.
#[test]
fn a_rollout_that_stands_still_is_looked_at_again() {
    let stuck = |reason: &str| status([3, 2, 1, 1], &[progressing("True", reason, BEFORE)]);
    let cases = [
        ("no deadline", json!(null), stuck("ReplicaSetUpdated"), None),
        ("no condition", json!(900), status([3, 2, 1, 1], &[]), None),
        ("complete", json!(900), status([2, 2, 2, 2], &[progressing("True", "ReplicaSetUpdated", BEFORE)]), None),
        ("late", json!(900), stuck(TIMED_OUT), None),
        ("five minutes left", json!(900), stuck("ReplicaSetUpdated"), Some(301)),
        ("now", json!(600), stuck("ReplicaSetUpdated"), Some(1)),
    ];
    for (case, deadline, status, seconds) in cases {
        let fields = json!({ "replicas": 2, "progressDeadlineSeconds": deadline, "metadata": { "generation": 1 } });
        let check = check_in(&deployment(&fields), &status, now());
        assert_eq!(check, seconds.map(Duration::from_secs), "{case}");
    }
}
