//! Nodes that fall silent, fall ill or go, and what becomes of their pods.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};
use tug_api::kinds::core;
use tug_controllers::Settings;

use crate::support::ControlPlane;

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

fn ready(status: &str) -> Value {
    json!({ "conditions": [{
        "type": "Ready", "status": status, "reason": "r", "message": "m",
        "lastHeartbeatTime": LONG_AGO, "lastTransitionTime": LONG_AGO,
    }] })
}

async fn node(plane: &ControlPlane, name: &str, status: &str) -> Value {
    let labels = json!({ "kubernetes.io/os": "linux" });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } });
    let node = plane.create(node).await;
    plane.say_status(&node, ready(status)).await;
    node
}

async fn pod(plane: &ControlPlane, name: &str, node: Option<&str>, more: Value) -> Value {
    let spec = json!({ "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    });
    pod["metadata"]["finalizers"] = more["finalizers"].clone();
    pod["spec"]["tolerations"] = more["tolerations"].clone();
    let pod = plane.create(pod).await;
    if node.is_some() {
        plane.say_status(&pod, json!({ "phase": "Running" })).await;
        plane.say_status(&pod, ready("True")).await;
    }
    pod
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn taints(node: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let taints = node["spec"]["taints"].as_array();
    taints.into_iter().flatten().map(|taint| format!("{}:{}", text(&taint["key"]), text(&taint["effect"]))).collect()
}

async fn event(plane: &ControlPlane, reason: &str, message: &str) -> Value {
    plane.until_some(&core::EVENT, "default", |e| e["reason"] == reason && e["message"] == message).await
}

#[tokio::test]
async fn a_node_that_falls_silent_is_unknown_and_its_pods_are_not_ready() {
    let grace = Duration::from_millis(500);
    let plane = ControlPlane::start_with(Settings { node_monitor_grace_period: grace, ..Settings::default() }).await;
    let pod = pod(&plane, "pod", Some("n"), json!({})).await;
    let node = node(&plane, "n", "True").await;
    let silent = plane.until(&node, |now| condition(now, "Ready").is_some_and(|c| c["status"] == "Unknown")).await;
    let said = condition(&silent, "Ready").expect("just seen");
    assert_eq!((&said["reason"], &said["lastHeartbeatTime"]), (&json!("NodeStatusUnknown"), &json!(LONG_AGO)));
    assert_eq!(said["message"], "Kubelet stopped posting node status.");
    assert_ne!(said["lastTransitionTime"], LONG_AGO);
    let pressure = condition(&silent, "MemoryPressure").expect("never said");
    assert_eq!((&pressure["status"], &pressure["reason"]), (&json!("Unknown"), &json!("NodeStatusNeverUpdated")));

    plane.until(&node, |now| taints(now) == ["node.kubernetes.io/unreachable:NoSchedule"]).await;
    let not_ready = plane.until(&pod, |now| condition(now, "Ready").is_some_and(|c| c["status"] == "False")).await;
    assert_eq!(condition(&not_ready, "Ready").expect("just seen")["reason"], "r");
    event(&plane, "RegisteredNode", "Node n event: Registered Node n in Controller").await;
    event(&plane, "NodeNotReady", "Node n status is now: NodeNotReady").await;
    assert_eq!(event(&plane, "NodeNotReady", "Node is not ready").await["involvedObject"]["name"], "pod");
    let labels = plane.get(&node).await.expect("it is there")["metadata"]["labels"].clone();
    assert_eq!(labels["beta.kubernetes.io/os"], "linux");
}

#[tokio::test]
async fn pods_leave_an_ill_node_when_their_time_is_over() {
    let plane = ControlPlane::start().await;
    node(&plane, "well", "True").await;
    let not_ready = |seconds: i64| {
        json!([{
            "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }])
    };
    // Admission gives it five minutes.
    let patient = pod(&plane, "patient", Some("ill"), json!({})).await;
    let hasty = pod(&plane, "hasty", Some("ill"), json!({ "tolerations": not_ready(0) })).await;
    let elsewhere = pod(&plane, "elsewhere", Some("well"), json!({ "tolerations": not_ready(0) })).await;
    let ill = node(&plane, "ill", "False").await;
    let expected = ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"];
    let tainted = plane.until(&ill, |now| taints(now) == expected).await;
    assert!(tainted["spec"]["taints"][1]["timeAdded"].is_string());
    let leaving = plane.until(&hasty, |now| now["metadata"]["deletionTimestamp"].is_string()).await;
    let why = condition(&leaving, "DisruptionTarget").expect("said before");
    assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("DeletionByTaintManager")));
    assert_eq!(why["message"], "Taint manager: deleting due to NoExecute taint");
    event(&plane, "TaintManagerEviction", "Marking for deletion Pod default/hasty").await;

    let late = pod(&plane, "late", Some("ill"), json!({ "tolerations": not_ready(0) })).await;
    plane.until(&late, |now| now["metadata"]["deletionTimestamp"].is_string()).await;
    plane.say_status(&ill, json!({ "conditions": [{ "type": "Ready", "status": "True" }] })).await;
    plane.until(&ill, |now| taints(now).is_empty()).await;
    event(&plane, "TaintManagerEviction", "Cancelling deletion of Pod default/patient").await;
    for stays in [&patient, &elsewhere] {
        let now = plane.get(stays).await.expect("it is there");
        assert!(now["metadata"]["deletionTimestamp"].is_null() && condition(&now, "DisruptionTarget").is_none());
    }

    plane.patch(&ill, json!({ "spec": { "unschedulable": true } })).await;
    plane.until(&ill, |now| taints(now) == ["node.kubernetes.io/unschedulable:NoSchedule"]).await;
}

#[tokio::test]
async fn where_no_node_is_well_nobody_is_driven_out() {
    let plane = ControlPlane::start().await;
    let only = node(&plane, "only", "False").await;
    plane.until(&only, |now| taints(now) == ["node.kubernetes.io/not-ready:NoSchedule"]).await;
    // Another one, and well: now it is that node which is ill, not its control plane.
    node(&plane, "other", "True").await;
    plane.until(&only, |now| taints(now).len() == 2).await;
    let other = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "other" } });
    plane.delete(&other, &DeleteParams::default()).await;
    plane.until(&only, |now| taints(now) == ["node.kubernetes.io/not-ready:NoSchedule"]).await;
    event(&plane, "RemovingNode", "Node other event: Removing Node other from Controller").await;
}

#[tokio::test]
async fn pods_that_no_kubelet_will_end_are_ended() {
    let quarantine = Duration::from_millis(100);
    let plane = ControlPlane::start_with(Settings { node_quarantine: quarantine, ..Settings::default() }).await;
    let gone = node(&plane, "gone", "True").await;
    node(&plane, "here", "True").await;
    let stays = pod(&plane, "stays", Some("here"), json!({})).await;
    let held = json!({ "finalizers": ["a.b/held"] });
    let orphan = pod(&plane, "orphan", Some("gone"), held.clone()).await;
    let plain = pod(&plane, "plain", Some("gone"), json!({})).await;
    let unbound = pod(&plane, "unbound", None, held).await;
    plane.delete(&gone, &DeleteParams::default()).await;
    plane.delete(&unbound, &DeleteParams::default()).await;
    plane.until_gone(&plain).await;
    let ended = plane.until(&orphan, |now| now["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(ended["status"]["phase"], "Failed");
    let why = condition(&ended, "DisruptionTarget").expect("said before");
    assert_eq!((&why["reason"], &why["message"]), (&json!("DeletionByPodGC"), &json!("PodGC: node no longer exists")));
    plane.until(&unbound, |now| now["status"]["phase"] == "Failed").await;
    assert_eq!(plane.get(&stays).await.expect("its node is there")["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_node_out_of_service_lets_go_of_its_pods() {
    let plane = ControlPlane::start().await;
    let broken = node(&plane, "broken", "False").await;
    let going = pod(&plane, "going", Some("broken"), json!({})).await;
    let stays = pod(&plane, "stays", Some("broken"), json!({})).await;
    plane.delete(&going, &DeleteParams::default()).await;
    let taint =
        json!([{ "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoSchedule" }]);
    plane.patch(&broken, json!({ "spec": { "taints": taint } })).await;
    plane.until_gone(&going).await;
    assert!(plane.get(&stays).await.is_some());
    plane.delete(&stays, &DeleteParams::default()).await;
    plane.until_gone(&stays).await;
}
