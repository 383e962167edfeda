//! What pods ask for: upstream's tables for `PodRequests` and for the scheduler's non-zero requests.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Requests, Resources, Scored};

const MI: i64 = 1024 * 1024;

fn of(pod: Value) -> Requests {
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    Requests::of(&pod)
}

fn container(requests: Value) -> Value {
    json!({ "name": "c", "resources": { "requests": requests } })
}

fn sidecar(cpu: &str) -> Value {
    json!({ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": cpu } } })
}

fn cpu(cpu: &str) -> Value {
    container(json!({ "cpu": cpu }))
}

#[test]
fn processors_of_a_pod() {
    let resized = |asked: &str, status: Value, conditions: Value| {
        json!({
            "spec": { "containers": [cpu(asked)] },
            "status": { "containerStatuses": [status], "conditions": conditions },
        })
    };
    let used = |allocated: Value| {
        json!({
            "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "resources": { "requests": { "cpu": "2" } }, "allocatedResources": allocated,
        })
    };
    let infeasible = json!([{ "type": "PodResizePending", "status": "True", "reason": "Infeasible" }]);
    let cases = [
        ("containers add up", json!({ "spec": { "containers": [cpu("1"), cpu("2")] } }), 3000),
        (
            "the largest init container",
            json!({ "spec": { "initContainers": [cpu("5"), cpu("3")], "containers": [cpu("1"), cpu("2")] } }),
            5000,
        ),
        (
            "larger containers",
            json!({ "spec": { "initContainers": [cpu("2")], "containers": [cpu("1"), cpu("2")] } }),
            3000,
        ),
        (
            "sidecars run with containers",
            json!({ "spec": { "initContainers": [sidecar("1")], "containers": [cpu("1")] } }),
            2000,
        ),
        (
            "several sidecars",
            json!({ "spec": { "initContainers": [cpu("5"), sidecar("1"), sidecar("2"), sidecar("3")], "containers": [cpu("1")] } }),
            7000,
        ),
        (
            "an init container runs with the sidecars before it",
            json!({ "spec": { "initContainers": [cpu("5"), sidecar("1"), sidecar("2"), cpu("5"), sidecar("3")], "containers": [cpu("1")] } }),
            8000,
        ),
        (
            "also a large one",
            json!({ "spec": { "initContainers": [sidecar("10"), cpu("200")], "containers": [cpu("100")] } }),
            210_000,
        ),
        ("overhead comes on top", json!({ "spec": { "containers": [cpu("1")], "overhead": { "cpu": "250m" } } }), 1250),
        (
            "the pod's own request counts instead",
            json!({ "spec": { "containers": [cpu("2m")], "initContainers": [sidecar("4m"), cpu("8m")], "resources": { "requests": { "cpu": "18m" } } } }),
            18,
        ),
        ("being resized up", resized("4", used(json!({})), json!([])), 4000),
        ("that can't be", resized("4", used(json!({})), infeasible.clone()), 2000),
        ("nor now", resized("6", used(json!({ "cpu": "4" })), infeasible), 4000),
    ];
    for (name, pod, expected) in cases {
        assert_eq!(of(pod).resources.milli_cpu, expected, "{name}");
    }
}

/// A container that asks for nothing counts for 100m and 200Mi in scores: upstream's `TestCalculatePodResource...` and
/// `getNonMissingContainerRequests`.
#[test]
fn what_scores_count() {
    let cases = [
        ("nothing asked for", json!({ "spec": { "containers": [{ "name": "c" }] } }), (100, 200 * MI)),
        (
            "two ask for nothing",
            json!({ "spec": { "containers": [{ "name": "c" }, { "name": "d" }] } }),
            (200, 400 * MI),
        ),
        (
            "asked for zero",
            json!({ "spec": { "containers": [container(json!({ "cpu": "0", "memory": "0" }))] } }),
            (0, 0),
        ),
        ("only processors", json!({ "spec": { "containers": [cpu("1")] } }), (1000, 200 * MI)),
        (
            "overhead too",
            json!({ "spec": { "containers": [{ "name": "c" }], "overhead": { "cpu": "10m", "memory": "1Mi" } } }),
            (110, 201 * MI),
        ),
        (
            "the pod asks for all there is",
            json!({ "spec": { "containers": [{ "name": "c" }], "resources": { "requests": { "cpu": "1", "memory": "1Mi" } } } }),
            (1000, MI),
        ),
        (
            "the pod asks for processors, nobody for memory",
            json!({ "spec": { "containers": [{ "name": "c" }], "resources": { "requests": { "cpu": "1" } } } }),
            (1000, 200 * MI),
        ),
    ];
    for (name, pod, (milli_cpu, memory)) in cases {
        assert_eq!(of(pod).scored, Scored { milli_cpu, memory }, "{name}");
    }
}

#[test]
fn resources_by_name() {
    let list = json!({
        "cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "1k", "hugepages-2Mi": "4Mi", "example.com/gpu": "2",
        "attachable-volumes-x": "3", "pods": "110", "something": "1",
    });
    let resources = Resources::of_list(&serde_json::from_value(list).expect("a list"));
    assert_eq!((resources.milli_cpu, resources.memory, resources.ephemeral_storage), (1500, 1024 * MI, 1000));
    let scalars: Vec<_> = resources.scalars.iter().map(|(name, amount)| (&**name, *amount)).collect();
    assert_eq!(scalars, [("attachable-volumes-x", 3), ("example.com/gpu", 2), ("hugepages-2Mi", 4 * MI)]);
    assert_eq!((resources.scalar("example.com/gpu"), resources.scalar("example.com/fpga")), (2, 0));
}
