//! Objects and their owners.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::ControlPlane;

fn config_map(namespace: &str, name: &str, owners: &[Value], finalizers: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name, "namespace": namespace, "ownerReferences": owners, "finalizers": finalizers,
        },
    })
}

fn owner(object: &Value, blocks: bool) -> Value {
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"],
        "blockOwnerDeletion": blocks,
    })
}

fn absent() -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "name": "never", "uid": "0ddba11" })
}

fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn owners(object: &Value) -> Vec<&str> {
    let references = object["metadata"]["ownerReferences"].as_array();
    references.into_iter().flatten().filter_map(|reference| reference["name"].as_str()).collect()
}

#[tokio::test]
async fn dependents_follow_their_owner_in_the_background() {
    let plane = ControlPlane::start().await;
    let top = plane.create(config_map("default", "top", &[], &[])).await;
    let middle = plane.create(config_map("default", "middle", &[owner(&top, true)], &[])).await;
    let bottom = plane.create(config_map("default", "bottom", &[owner(&middle, true)], &["a.b/held"])).await;
    let other = plane.create(config_map("default", "other", &[], &[])).await;
    let shared = plane.create(config_map("default", "shared", &[owner(&top, false), owner(&other, false)], &[])).await;
    plane.delete(&top, &DeleteParams::background()).await;
    plane.until_gone(&middle).await;
    plane.until(&bottom, is_deleting).await;
    plane.until(&shared, |object| owners(object) == ["other"]).await;
    plane.patch(&bottom, json!({ "metadata": { "finalizers": null } })).await;
    plane.until_gone(&bottom).await;
    assert!(plane.get(&other).await.is_some());
}

#[tokio::test]
async fn in_the_foreground_dependents_go_first() {
    let plane = ControlPlane::start().await;
    let top = plane.create(config_map("default", "top", &[], &[])).await;
    let middle = plane.create(config_map("default", "middle", &[owner(&top, true)], &[])).await;
    let bottom = plane.create(config_map("default", "bottom", &[owner(&middle, true)], &["a.b/held"])).await;
    let beside = plane.create(config_map("default", "beside", &[owner(&top, false)], &["a.b/held"])).await;
    plane.delete(&top, &DeleteParams::foreground()).await;
    plane.until(&beside, is_deleting).await;
    plane.until(&bottom, is_deleting).await;
    for waiting in [&top, &middle] {
        let now = plane.get(waiting).await.expect("it waits for what is held");
        assert_eq!(now["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    }
    plane.patch(&bottom, json!({ "metadata": { "finalizers": null } })).await;
    plane.until_gone(&middle).await;
    plane.until_gone(&top).await;
    assert!(plane.get(&beside).await.is_some(), "it blocks nobody");
}

#[tokio::test]
async fn orphans_stay() {
    let plane = ControlPlane::start().await;
    let top = plane.create(config_map("default", "top", &[], &[])).await;
    let middle = plane.create(config_map("default", "middle", &[owner(&top, true)], &[])).await;
    let bottom = plane.create(config_map("default", "bottom", &[owner(&middle, true)], &[])).await;
    plane.delete(&top, &DeleteParams::orphan()).await;
    plane.until_gone(&top).await;
    assert!(owners(&plane.get(&middle).await.expect("it stays")).is_empty());
    assert_eq!(owners(&plane.get(&bottom).await.expect("it stays")), ["middle"]);
}

#[tokio::test]
async fn circles_of_owners_come_apart() {
    let plane = ControlPlane::start().await;
    for how in [DeleteParams::foreground(), DeleteParams::background()] {
        let a = plane.create(config_map("default", "a", &[], &[])).await;
        let b = plane.create(config_map("default", "b", &[owner(&a, true)], &[])).await;
        plane.patch(&a, json!({ "metadata": { "ownerReferences": [owner(&b, true)] } })).await;
        plane.delete(&a, &how).await;
        plane.until_gone(&a).await;
        plane.until_gone(&b).await;
    }
}

/// The API is asked before anything is deleted: uids, kinds and namespaces must all be right.
#[tokio::test]
async fn what_refers_to_nobody_goes() {
    let plane = ControlPlane::start().await;
    let solid = plane.create(config_map("default", "solid", &[], &[])).await;
    let mut of_earlier = owner(&solid, false);
    of_earlier["uid"] = "an-earlier-one".into();
    let unserved = json!({ "apiVersion": "a.b/v1", "kind": "Thing", "name": "x", "uid": "x" });
    let stays = [
        config_map("default", "owned", &[owner(&solid, false)], &[]),
        config_map("default", "unserved", &[unserved], &[]),
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": "of-namespaced", "ownerReferences": [owner(&solid, false)] },
        }),
    ];
    for object in &stays {
        plane.create(object.clone()).await;
    }
    plane.create(config_map("default", "both", &[absent(), owner(&solid, false)], &[])).await;
    let goes = [
        config_map("default", "absent", &[absent()], &[]),
        config_map("default", "earlier", &[of_earlier], &[]),
        config_map("kube-public", "elsewhere", &[owner(&solid, false)], &[]),
    ];
    for object in &goes {
        plane.create(object.clone()).await;
    }
    for object in &goes {
        plane.until_gone(object).await;
    }
    plane.until(&config_map("default", "both", &[], &[]), |object| owners(object) == ["solid"]).await;
    for object in &stays {
        assert!(plane.get(object).await.is_some(), "{object}");
    }
    let uid = solid["metadata"]["uid"].as_str().expect("a uid");
    let message = format!(
        "ownerRef [v1/ConfigMap, namespace: kube-public, name: solid, uid: {uid}] \
         does not exist in namespace \"kube-public\""
    );
    let events = tug_api::kinds::by_resource("", "v1", "events").expect("events");
    plane
        .until_some(events, "kube-public", |event| {
            event["reason"] == "OwnerRefInvalidNamespace" && event["message"] == *message
        })
        .await;
}
