//! Endpoints and EndpointSlices as pods come, become ready and go.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use tug_api::kinds::core::ENDPOINTS;
use tug_api::kinds::discovery::ENDPOINT_SLICE;

use crate::support::ControlPlane;

fn node(zone: &str) -> Value {
    let labels = json!({ "topology.kubernetes.io/zone": zone });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "labels": labels } })
}

fn service(selector: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default", "labels": { "team": "x" } },
        "spec": { "selector": selector, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": "web" } },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "c", "image": "i", "ports": [{ "name": "http", "containerPort": 8080 }] }],
        },
    })
}

/// As a kubelet says it.
fn running(address: &str, ready: bool) -> Value {
    let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
    let addresses = json!([{ "ip": address }]);
    json!({ "status": { "phase": "Running", "podIP": address, "podIPs": addresses, "conditions": [condition] } })
}

/// Address, ready, serving, terminating of each endpoint of the Service's only slice.
fn endpoints(slice: &Value) -> Vec<Value> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let said = endpoints.map(|endpoint| {
        let conditions = &endpoint["conditions"];
        json!([endpoint["addresses"][0], conditions["ready"], conditions["serving"], conditions["terminating"]])
    });
    said.collect()
}

async fn until_endpoints(plane: &ControlPlane, expected: Value) -> Value {
    let is_ours = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web";
    let slice =
        plane.until_some(&ENDPOINT_SLICE, "default", |slice| is_ours(slice) && json!(endpoints(slice)) == expected);
    slice.await
}

/// Addresses of the Service's Endpoints, ready and not.
async fn until_addresses(plane: &ControlPlane, ready: &[&str], not_ready: &[&str]) -> Value {
    let said = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|a| a["ip"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let is_so = |endpoints: &Value| {
        let subset = &endpoints["subsets"][0];
        endpoints["metadata"]["name"] == "web"
            && said(&subset["addresses"]) == ready
            && said(&subset["notReadyAddresses"]) == not_ready
    };
    plane.until_some(&ENDPOINTS, "default", is_so).await
}

#[tokio::test]
async fn endpoints_follow_their_pods() {
    let plane = ControlPlane::start().await;
    plane.create(node("east")).await;
    let web = plane.create(service(json!({ "app": "web" }))).await;
    let empty = until_endpoints(&plane, json!([])).await;
    assert_eq!(empty["ports"], Value::Null, "as upstream has it: a list that is empty isn't stored");
    until_addresses(&plane, &[], &[]).await;

    let (one, two) = (plane.create(pod("one")).await, plane.create(pod("two")).await);
    plane.patch_status(&one, running("10.244.0.1", false)).await;
    until_endpoints(&plane, json!([["10.244.0.1", false, false, false]])).await;
    until_addresses(&plane, &[], &["10.244.0.1"]).await;

    plane.patch_status(&one, running("10.244.0.1", true)).await;
    let slice = until_endpoints(&plane, json!([["10.244.0.1", true, true, false]])).await;
    let metadata = &slice["metadata"];
    assert_eq!(metadata["name"], empty["metadata"]["name"], "the empty one is filled");
    assert_eq!(
        metadata["labels"],
        json!({
            "team": "x",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        })
    );
    assert_eq!(slice["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
    let endpoint = &slice["endpoints"][0];
    assert_eq!((&endpoint["nodeName"], &endpoint["zone"]), (&json!("n1"), &json!("east")));
    assert_eq!(endpoint["targetRef"]["uid"], one["metadata"]["uid"]);
    let listed = until_addresses(&plane, &["10.244.0.1"], &[]).await;
    assert_eq!(listed["subsets"][0]["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
    assert_eq!(
        listed["metadata"]["labels"],
        json!({ "team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller" })
    );

    // A pod that is told to go is told about at once, while it still serves.
    plane.patch_status(&two, running("10.244.0.2", true)).await;
    until_endpoints(&plane, json!([["10.244.0.1", true, true, false], ["10.244.0.2", true, true, false]])).await;
    plane.delete(&one, &DeleteParams::default()).await;
    until_endpoints(&plane, json!([["10.244.0.1", false, true, true], ["10.244.0.2", true, true, false]])).await;
    until_addresses(&plane, &["10.244.0.2"], &[]).await;
    plane.delete(&one, &DeleteParams::default().grace_period(0)).await;
    until_endpoints(&plane, json!([["10.244.0.2", true, true, false]])).await;

    plane.patch(&two, json!({ "metadata": { "labels": { "app": "debug" } } })).await;
    until_endpoints(&plane, json!([])).await;
    plane.delete(&web, &DeleteParams::default()).await;
    plane.until_gone(&slice).await;
    plane.until_gone(&listed).await;
}

#[tokio::test]
async fn a_services_selector_and_a_nodes_zone_are_followed() {
    let plane = ControlPlane::start().await;
    let web = plane.create(service(json!({ "app": "other" }))).await;
    let one = plane.create(pod("one")).await;
    plane.patch_status(&one, running("10.244.0.1", true)).await;
    until_endpoints(&plane, json!([])).await;
    plane.patch(&web, json!({ "spec": { "selector": { "app": "web" } } })).await;
    until_addresses(&plane, &["10.244.0.1"], &[]).await;
    until_endpoints(&plane, json!([])).await;
    let node = plane.create(node("east")).await;
    let slice = until_endpoints(&plane, json!([["10.244.0.1", true, true, false]])).await;
    assert_eq!(slice["endpoints"][0]["zone"], "east", "only now its node is known");
    plane.patch(&node, json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "west" } } })).await;
    plane.until(&slice, |slice| slice["endpoints"][0]["zone"] == "west").await;
}

#[tokio::test]
async fn what_others_made_is_left_alone_and_what_was_ours_is_mended() {
    let plane = ControlPlane::start().await;
    plane.create(node("east")).await;
    let manual = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": name, "namespace": "default" },
            "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 80 }] }],
        })
    };
    let alone = plane.create(manual("alone")).await;
    plane
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "external", "namespace": "default" },
            "spec": { "ports": [{ "port": 80 }] },
        }))
        .await;
    let external = plane.create(manual("external")).await;
    plane.create(service(json!({ "app": "web" }))).await;
    let one = plane.create(pod("one")).await;
    plane.patch_status(&one, running("10.244.0.1", true)).await;
    let listed = until_addresses(&plane, &["10.244.0.1"], &[]).await;
    let slice = until_endpoints(&plane, json!([["10.244.0.1", true, true, false]])).await;

    plane.delete(&slice, &DeleteParams::default()).await;
    plane.patch(&listed, json!({ "subsets": [] })).await;
    let again = until_endpoints(&plane, json!([["10.244.0.1", true, true, false]])).await;
    assert_ne!(again["metadata"]["name"], slice["metadata"]["name"]);
    until_addresses(&plane, &["10.244.0.1"], &[]).await;
    for theirs in [&alone, &external] {
        assert_eq!(plane.get(theirs).await.expect("kept")["subsets"], theirs["subsets"]);
    }
}
