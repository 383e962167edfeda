//! Statuses of pods, as upstream's kubelet reports them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};
use serde_json::{Value, json};

use super::*;
use crate::runtime::ContainerSpec;

/// `name:restart:state[:exit]`, such as `c:0:running`, `c:0:exited:1`; `+` after running: started and ready.
fn record(text: &str) -> Record {
    let parts: Vec<&str> = text.split(':').collect();
    let exited = parts[2] == "exited";
    let healthy = parts[2] == "running+";
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    Record {
        status: runtime::ContainerStatus {
            id: format!("id-{}-{}", parts[0], parts[1]),
            sandbox: "u".into(),
            image: "sha256:1".into(),
            labels: BTreeMap::from([
                (labels::CONTAINER_NAME.into(), parts[0].into()),
                (labels::RESTART_COUNT.into(), parts[1].into()),
            ]),
            state: if exited { State::Exited } else { State::Running },
            pid: None,
            created: at,
            started: Some(at),
            finished: exited.then_some(at),
            exit_code: exited.then(|| parts[3].parse().unwrap()),
            oom_killed: parts.get(4) == Some(&"oom"),
            error: None,
            user: None,
            spec: ContainerSpec::default(),
        },
        message: String::new(),
        image_id: "docker.io/library/x@sha256:2".into(),
        image: "docker.io/library/x:1".into(),
        health: Health { started: healthy, ready: healthy, failed: None },
    }
}

struct Case {
    spec: Value,
    records: &'static [&'static str],
    waiting: &'static [(&'static str, &'static str)],
    ended: bool,
    phase: &'static str,
    /// States of init containers, of the others, then of those added later.
    states: &'static str,
    /// `PodReadyToStartContainers Initialized Ready ContainersReady`, as T and F.
    conditions: &'static str,
}

const PLAIN: Case =
    Case { spec: Value::Null, records: &[], waiting: &[], ended: false, phase: "", states: "", conditions: "" };

fn with_init(policy: &str) -> Value {
    json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]})
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c"}, {"name": "d"}]})
}

fn looked_into(policy: &str) -> Value {
    let added = json!([{"name": "d", "targetContainerName": "c"}]);
    json!({"restartPolicy": policy, "containers": [{"name": "c"}], "ephemeralContainers": added})
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c"}]})
}

fn cases() -> Vec<Case> {
    vec![
        Case { spec: one("Always"), phase: "Pending", states: "ContainerCreating", conditions: "TTFF", ..PLAIN },
        Case {
            spec: one("Always"),
            records: &["c:0:running+"],
            phase: "Running",
            states: "running",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: one("Always"),
            records: &["c:0:running"],
            phase: "Running",
            states: "running",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: one("Always"),
            records: &["c:0:exited:1"],
            waiting: &[("c", "CrashLoopBackOff")],
            phase: "Running",
            states: "CrashLoopBackOff/last:Error",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: one("Always"),
            records: &["c:0:exited:137:oom", "c:1:running+"],
            phase: "Running",
            states: "running/last:OOMKilled",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: one("Always"),
            waiting: &[("c", "ErrImagePull")],
            phase: "Pending",
            states: "ErrImagePull",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: one("Never"),
            records: &["c:0:exited:0"],
            phase: "Succeeded",
            states: "Completed",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: one("Never"),
            records: &["c:0:exited:3"],
            phase: "Failed",
            states: "Error",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: one("OnFailure"),
            records: &["c:0:exited:3"],
            phase: "Running",
            states: "Error",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: two("Never"),
            records: &["c:0:exited:3", "d:0:running+"],
            phase: "Running",
            states: "Error running",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: two("Always"),
            records: &["c:0:running+"],
            phase: "Pending",
            states: "running ContainerCreating",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: with_init("Always"),
            records: &["i:0:running"],
            phase: "Pending",
            states: "running PodInitializing",
            conditions: "TFFF",
            ..PLAIN
        },
        Case {
            spec: with_init("Always"),
            records: &["i:0:exited:0"],
            phase: "Pending",
            states: "Completed PodInitializing",
            conditions: "TTFF",
            ..PLAIN
        },
        Case {
            spec: with_init("Always"),
            records: &["i:0:exited:0", "c:0:running+"],
            phase: "Running",
            states: "Completed running",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: with_init("Never"),
            records: &["i:0:exited:1"],
            phase: "Failed",
            states: "Error PodInitializing",
            conditions: "TFFF",
            ..PLAIN
        },
        Case {
            spec: with_init("Always"),
            records: &["i:0:exited:1"],
            waiting: &[("i", "CrashLoopBackOff")],
            phase: "Pending",
            states: "CrashLoopBackOff/last:Error PodInitializing",
            conditions: "TFFF",
            ..PLAIN
        },
        Case {
            spec: json!({"initContainers": [{"name": "i", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}),
            records: &["i:0:running+", "c:0:running+"],
            phase: "Running",
            states: "running running",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: json!({"initContainers": [{"name": "i", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}),
            records: &["i:0:running"],
            phase: "Pending",
            states: "running PodInitializing",
            conditions: "TFFF",
            ..PLAIN
        },
        Case {
            spec: two("Always"),
            records: &["c:0:exited:0", "d:0:exited:0"],
            ended: true,
            phase: "Succeeded",
            states: "Completed Completed",
            conditions: "FTFF",
            ..PLAIN
        },
        Case {
            spec: two("Always"),
            records: &["c:0:exited:143"],
            ended: true,
            phase: "Failed",
            states: "Error ContainerStatusUnknown",
            conditions: "FTFF",
            ..PLAIN
        },
        // What was added to look into a pod counts for nothing.
        Case {
            spec: looked_into("Always"),
            records: &["c:0:running+"],
            waiting: &[("d", "ErrImagePull")],
            phase: "Running",
            states: "running ErrImagePull",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: looked_into("Always"),
            records: &["c:0:running+", "d:0:exited:1"],
            phase: "Running",
            states: "running Error",
            conditions: "TTTT",
            ..PLAIN
        },
        Case {
            spec: looked_into("Never"),
            records: &["c:0:exited:0", "d:0:running"],
            phase: "Succeeded",
            states: "Completed running",
            conditions: "TTFF",
            ..PLAIN
        },
    ]
}

fn state(status: &ContainerStatus) -> String {
    let of = |state: &ContainerState| {
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        let terminated = state.terminated.as_ref().and_then(|terminated| terminated.reason.clone());
        waiting.or(terminated).unwrap_or_else(|| "running".into())
    };
    let mut text = of(status.state.as_ref().unwrap());
    if let Some(last) = &status.last_state {
        text = format!("{text}/last:{}", of(last));
    }
    text
}

#[test]
fn table() {
    for (index, case) in cases().into_iter().enumerate() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": case.spec})).unwrap();
        let records: Vec<Record> = case.records.iter().map(|text| record(text)).collect();
        let waiting =
            |(name, reason): &(&str, &'static str)| ((*name).to_owned(), Waiting { reason, message: "m".into() });
        let status = compute(&Observed {
            pod: &pod,
            records: &records,
            waiting: &case.waiting.iter().map(waiting).collect(),
            sandbox_ready: !case.ended,
            addresses: &Addresses { host: "10.0.0.1".into(), pod: vec!["10.244.0.2".into()] },
            failure: None,
            ended: case.ended,
            now: Timestamp::UNIX_EPOCH,
        });
        let added = status.ephemeral_container_statuses.iter();
        assert!(added.clone().flatten().all(|status| !status.ready && status.started.is_none()), "case {index}");
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).chain(added).flatten();
        let states: Vec<String> = all.map(state).collect();
        let flag = |name: &str| {
            let found = status.conditions.iter().flatten().find(|condition| condition.type_ == name).unwrap();
            if found.status == "True" { 'T' } else { 'F' }
        };
        let conditions: String =
            ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"].into_iter().map(flag).collect();
        let got = (status.phase.as_deref().unwrap(), states.join(" "), conditions.as_str().to_owned());
        assert_eq!(got, (case.phase, case.states.to_owned(), case.conditions.to_owned()), "case {index}");
    }
}

#[test]
fn transitions_are_dated_once_and_others_conditions_stay() {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "generation": 2},
        "spec": {"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "example.com/gate"}]},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "example.com/gate", "status": "False"},
        ]}
    }))
    .unwrap();
    let records = [record("c:0:running+")];
    let at = |pod: &Pod, now: i64| {
        compute(&Observed {
            pod,
            records: &records,
            waiting: &HashMap::new(),
            sandbox_ready: true,
            addresses: &Addresses { host: "10.0.0.1".into(), pod: vec!["10.244.0.2".into()] },
            failure: None,
            ended: false,
            now: Timestamp::from_second(now).unwrap(),
        })
    };
    let find = |status: &PodStatus, name: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == name).cloned().unwrap()
    };
    let first = at(&pod, 100);
    assert_eq!(find(&first, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        find(&first, "Ready").message.as_deref(),
        Some("the status of pod readiness gate \"example.com/gate\" is not \"True\", but False")
    );
    assert_eq!(find(&first, "PodScheduled").last_transition_time.unwrap().0.as_second(), 1_577_836_800);
    assert_eq!(find(&first, "example.com/gate").status, "False");
    assert_eq!(first.observed_generation, Some(2));
    pod.status = Some(first.clone());
    assert_eq!(at(&pod, 200), first, "nothing changed, nothing is new");
    for condition in pod.status.as_mut().unwrap().conditions.iter_mut().flatten() {
        if condition.type_ == "example.com/gate" {
            condition.status = "True".into();
        }
    }
    let ready = find(&at(&pod, 300), "Ready");
    assert_eq!((ready.status.as_str(), ready.last_transition_time.unwrap().0.as_second()), ("True", 300));
}
