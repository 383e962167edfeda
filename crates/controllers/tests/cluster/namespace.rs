//! Namespaces on their way out.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::ControlPlane;

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": namespace },
    });
    for (field, value) in rest.as_object().expect("fields") {
        object[field] = value.clone();
    }
    object
}

fn condition<'a>(namespace: &'a Value, kind: &str) -> (&'a str, &'a str, &'a str) {
    let conditions = namespace["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    let text = |field: &str| found.and_then(|found| found[field].as_str()).unwrap_or_default();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn all_that_is_in_it_goes_and_what_is_held_is_named() {
    let plane = ControlPlane::start().await;
    let doomed = plane.create(namespace("doomed")).await;
    let port = json!({ "spec": { "ports": [{ "port": 80 }] } });
    let role = json!({ "rules": [] });
    let event = json!({ "involvedObject": { "namespace": "doomed", "name": "x" } });
    let content = [
        object("v1", "Secret", "doomed", "a", json!({})),
        object("v1", "Service", "doomed", "b", port),
        object("rbac.authorization.k8s.io/v1", "Role", "doomed", "c", role),
        object("v1", "Event", "doomed", "d", event),
        object("coordination.k8s.io/v1", "Lease", "doomed", "e", json!({})),
    ];
    for object in &content {
        plane.create(object.clone()).await;
    }
    let mut held = object("v1", "ConfigMap", "doomed", "held", json!({}));
    held["metadata"]["finalizers"] = json!(["custom.io/finalizer"]);
    let held = plane.create(held).await;
    let other = plane.create(object("v1", "Secret", "default", "a", json!({}))).await;

    plane.delete(&doomed, &DeleteParams::default()).await;
    let remaining = "NamespaceContentRemaining";
    let waiting = plane.until(&doomed, |now| condition(now, remaining).0 == "True").await;
    assert_eq!(waiting["status"]["phase"], "Terminating");
    let expected = "Some resources are remaining: configmaps. has 1 resource instances";
    assert_eq!(condition(&waiting, remaining), ("True", "SomeResourcesRemain", expected));
    let expected =
        "Some content in the namespace has finalizers remaining: custom.io/finalizer in 1 resource instances";
    assert_eq!(condition(&waiting, "NamespaceFinalizersRemaining"), ("True", "SomeFinalizersRemain", expected));
    let expected = "All content successfully deleted, may be waiting on finalization";
    assert_eq!(condition(&waiting, "NamespaceDeletionContentFailure"), ("False", "ContentDeleted", expected));
    for object in &content {
        assert!(plane.get(object).await.is_none(), "{object}");
    }

    plane.patch(&held, json!({ "metadata": { "finalizers": null } })).await;
    plane.until_gone(&doomed).await;
    assert!(plane.get(&held).await.is_none());
    assert!(plane.get(&other).await.is_some());
}

#[tokio::test]
async fn pods_are_given_their_time_and_keep_what_they_need_until_then() {
    let plane = ControlPlane::start().await;
    let doomed = plane.create(namespace("doomed")).await;
    let needed = plane.create(object("v1", "Secret", "doomed", "needed", json!({}))).await;
    let spec = json!({ "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] } });
    let pod = plane.create(object("v1", "Pod", "doomed", "pod", spec)).await;
    plane.delete(&doomed, &DeleteParams::default()).await;
    let waiting = plane.until(&doomed, |now| condition(now, "NamespaceContentRemaining").0 == "True").await;
    let expected = "Some resources are remaining: pods. has 1 resource instances";
    assert_eq!(condition(&waiting, "NamespaceContentRemaining").2, expected);
    let going = plane.get(&pod).await.expect("it has thirty seconds");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(plane.get(&needed).await.is_some());
    // What its kubelet says once the containers have stopped.
    plane.delete(&pod, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
    plane.until_gone(&doomed).await;
    assert!(plane.get(&needed).await.is_none());
}

#[tokio::test]
async fn a_name_is_free_again_at_once() {
    let plane = ControlPlane::start().await;
    for _ in 0..3 {
        let made = plane.create(namespace("again")).await;
        plane.delete(&made, &DeleteParams::default()).await;
        plane.until_gone(&made).await;
    }
}
