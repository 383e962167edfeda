//! ReplicaSets and ReplicationControllers, and the pods that they make.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::watch;
use tug_api::kinds::core::{EVENT, POD};

use crate::support::ControlPlane;

fn replica_set(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name }, "annotations": { "x": "y" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    })
}

fn bare_pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
}

fn status(set: &Value) -> Value {
    let mut status = set["status"].clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("observedGeneration");
    }
    status
}

fn says(expected: Value) -> impl Fn(&Value) -> bool {
    move |set| status(set) == expected && set["status"]["observedGeneration"] == set["metadata"]["generation"]
}

/// As a kubelet would.
async fn make_ready(plane: &ControlPlane, pod: &Value) {
    let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z" });
    plane.patch_status(pod, json!({ "status": { "phase": "Running", "conditions": [ready] } })).await;
}

#[tokio::test]
async fn as_many_pods_as_wanted_each_once() {
    let plane = ControlPlane::start().await;
    let set = plane.create(replica_set("web", 40)).await;
    let whole = json!({ "replicas": 40, "fullyLabeledReplicas": 40, "terminatingReplicas": 0 });
    plane.until(&set, says(whole)).await;
    let pods = plane.list(&POD, "default").await;
    assert_eq!(pods.len(), 40);
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": set["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    for pod in &pods {
        let metadata = &pod["metadata"];
        assert_eq!(metadata["ownerReferences"], owner);
        assert_eq!(metadata["generateName"], "web-");
        assert_eq!((&metadata["labels"], &metadata["annotations"]), (&json!({ "app": "web" }), &json!({ "x": "y" })));
    }
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    let about = format!("Created pod: {name}");
    let event = plane.until_some(&EVENT, "default", |event| event["reason"] == "SuccessfulCreate").await;
    assert_eq!(
        (&event["involvedObject"]["name"], &event["source"]["component"]),
        (&json!("web"), &json!("replicaset-controller"))
    );
    let told = plane.list(&EVENT, "default").await;
    assert!(told.len() > 1 || told[0]["message"] == about.as_str(), "{told:?}");

    make_ready(&plane, &pods[7]).await;
    let ready = json!({ "replicas": 40, "fullyLabeledReplicas": 40, "readyReplicas": 1, "availableReplicas": 1, "terminatingReplicas": 0 });
    plane.until(&set, says(ready)).await;

    plane.patch(&set, json!({ "spec": { "replicas": 1 } })).await;
    let left = json!({ "replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "terminatingReplicas": 0 });
    plane.until(&set, says(left)).await;
    let left = plane.list(&POD, "default").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["name"], pods[7]["metadata"]["name"], "the ready one stays");
}

#[tokio::test]
async fn a_pod_that_ends_or_goes_is_replaced() {
    let plane = ControlPlane::start().await;
    let set = plane.create(replica_set("web", 2)).await;
    let whole = || says(json!({ "replicas": 2, "fullyLabeledReplicas": 2, "terminatingReplicas": 0 }));
    plane.until(&set, whole()).await;
    let pods = plane.list(&POD, "default").await;
    plane.patch_status(&pods[0], json!({ "status": { "phase": "Failed" } })).await;
    plane.delete(&pods[1], &DeleteParams::default()).await;
    let known: Vec<_> = pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect();
    let is_new = |pod: &Value| !known.contains(&pod["metadata"]["name"]);
    plane.until_many(&POD, "default", 2, is_new).await;
    plane.until(&set, whole()).await;
    assert_eq!(plane.list(&POD, "default").await.len(), 3, "the failed one is kept");
}

#[tokio::test]
async fn pods_are_adopted_and_let_go_by_their_labels() {
    let plane = ControlPlane::start().await;
    let stray = plane.create(bare_pod("stray", "web")).await;
    let set = plane.create(replica_set("web", 1)).await;
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"];
    plane.until(&stray, owned).await;
    plane.until(&set, says(json!({ "replicas": 1, "fullyLabeledReplicas": 1, "terminatingReplicas": 0 }))).await;
    assert_eq!(plane.list(&POD, "default").await.len(), 1);

    plane.patch(&stray, json!({ "metadata": { "labels": { "app": "debug" } } })).await;
    plane.until(&stray, |pod| pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)).await;
    plane.until_some(&POD, "default", |pod| pod["metadata"]["labels"]["app"] == "web").await;
}

#[tokio::test]
async fn a_refused_pod_is_told_and_tried_again() {
    let plane = ControlPlane::start().await;
    let mut refused = replica_set("web", 3);
    refused["spec"]["template"]["spec"]["serviceAccountName"] = json!("absent");
    let set = plane.create(refused).await;
    let message = "pods \"web-\" is forbidden: error looking up service account default/absent: serviceaccount \"absent\" not found";
    let failure = plane.until(&set, |set| set["status"]["conditions"][0]["type"] == "ReplicaFailure").await;
    let condition = &failure["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"], &condition["message"]),
        (&json!("True"), &json!("FailedCreate"), &json!(message))
    );
    let event = plane.until_some(&EVENT, "default", |event| event["reason"] == "FailedCreate").await;
    assert_eq!(event["message"], format!("Error creating: {message}"));
    plane
        .create(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "absent", "namespace": "default" } }))
        .await;
    plane.until(&set, says(json!({ "replicas": 3, "fullyLabeledReplicas": 3, "terminatingReplicas": 0 }))).await;
}

#[tokio::test]
async fn a_replication_controller_does_the_same() {
    let plane = ControlPlane::start().await;
    let mut controller = replica_set("old", 2);
    controller["apiVersion"] = json!("v1");
    controller["kind"] = json!("ReplicationController");
    controller["spec"]["selector"] = json!({ "app": "old" });
    let controller = plane.create(controller).await;
    plane.until(&controller, says(json!({ "replicas": 2, "fullyLabeledReplicas": 2 }))).await;
    let pod = plane.until_some(&POD, "default", |_| true).await;
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
}

#[tokio::test]
async fn pods_that_are_made_but_not_seen_yet_are_not_made_again() {
    let (gate, is_open) = watch::channel(true);
    let plane = ControlPlane::start_behind(is_open).await;
    // Its controllers work once they have heard of all pods that there are.
    let first = plane.create(replica_set("first", 1)).await;
    plane.until(&first, says(json!({ "replicas": 1, "fullyLabeledReplicas": 1, "terminatingReplicas": 0 }))).await;
    gate.send_replace(false);
    let web = plane.create(replica_set("web", 3)).await;
    plane.until_many(&POD, "default", 4, |_| true).await;
    // This calls for another look at it; the other one's pod shows that looks are taken.
    plane.patch(&web, json!({ "metadata": { "annotations": { "look": "again" } } })).await;
    plane.create(replica_set("other", 1)).await;
    plane.until_some(&POD, "default", |pod| pod["metadata"]["generateName"] == "other-").await;
    gate.send_replace(true);
    plane.until(&web, says(json!({ "replicas": 3, "fullyLabeledReplicas": 3, "terminatingReplicas": 0 }))).await;
    assert_eq!(plane.list(&POD, "default").await.len(), 5);
}
