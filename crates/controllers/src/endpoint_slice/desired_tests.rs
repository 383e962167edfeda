//! Cases of upstream's `endpointslice/utils_test.go`.

use serde_json::{Value, json};

use super::*;
use crate::testing::{object, pod, with};

const GOING: &str = "2030-01-01T00:00:00Z";

fn service(fields: &Value) -> (std::sync::Arc<Object>, Service) {
    let base = json!({
        "metadata": { "labels": { "mine": "m" } },
        "spec": {
            "clusterIP": "10.96.0.10", "ipFamilies": ["IPv4"], "selector": { "app": "a" },
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 }],
        },
    });
    let object = object("s", &with(&base, fields));
    let service = serde_json::from_slice(object.json()).expect("a Service");
    (object, service)
}

fn ready_pod(fields: &Value) -> Pod {
    let base = json!({
        "spec": { "nodeName": "n1" },
        "status": {
            "phase": "Running", "podIPs": [{ "ip": "10.244.0.1" }, { "ip": "fd00::1" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    pod("p", &with(&base, fields))
}

fn zone(node: &str) -> Option<String> {
    match node {
        "n1" => Some("east".into()),
        "zoneless" => Some(String::new()),
        _ => None,
    }
}

fn endpoints(service_fields: &Value, pod_fields: &Value) -> Vec<Value> {
    let (object, service) = service(service_fields);
    let subject = Subject { object: &object, service: &service, zone: &zone };
    let groups = subject.groups(&[ready_pod(pod_fields)], "IPv4");
    groups.into_values().flat_map(BTreeMap::into_values).map(|e| serde_json::to_value(e).expect("JSON")).collect()
}

#[test]
fn an_endpoint_is_where_a_pod_is_and_how() {
    let expected = json!([{
        "addresses": ["10.244.0.1"],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "nodeName": "n1",
        "targetRef": { "kind": "Pod", "name": "p", "namespace": "n", "uid": "p" },
        "zone": "east",
    }]);
    assert_eq!(json!(endpoints(&json!({}), &json!({}))), expected);
}

/// `TestPodToEndpoint`: the three conditions.
#[test]
fn a_terminating_pod_serves_as_its_readiness_says_but_is_not_ready() {
    let (ready, unready) = (json!({}), json!({ "status": { "conditions": [] } }));
    let going = |pod: &Value| with(pod, &json!({ "metadata": { "deletionTimestamp": GOING } }));
    let (plain, all) = (json!({}), json!({ "spec": { "publishNotReadyAddresses": true } }));
    let cases = [
        (&plain, ready.clone(), [true, true, false]),
        (&plain, unready.clone(), [false, false, false]),
        (&plain, going(&ready), [false, true, true]),
        (&plain, going(&unready), [false, false, true]),
        (&all, ready.clone(), [true, true, false]),
        (&all, unready.clone(), [true, false, false]),
        (&all, going(&ready), [true, true, true]),
        (&all, going(&unready), [true, false, true]),
    ];
    for (service, pod, [ready, serving, terminating]) in cases {
        let expected = json!({ "ready": ready, "serving": serving, "terminating": terminating });
        assert_eq!(endpoints(service, &pod)[0]["conditions"], expected, "{service} {pod}");
    }
}

#[test]
fn a_pods_name_in_the_services_domain_is_told() {
    for (hostname, subdomain, expected) in [("h", "s", json!("h")), ("h", "other", json!(null)), ("", "s", json!(null))]
    {
        let fields = json!({ "spec": { "hostname": hostname, "subdomain": subdomain } });
        assert_eq!(endpoints(&json!({}), &fields)[0]["hostname"], expected, "{hostname} {subdomain}");
    }
}

#[test]
fn a_pod_waits_for_its_node_to_be_known() {
    let elsewhere = json!({ "spec": { "nodeName": "unknown" } });
    assert_eq!(endpoints(&json!({}), &elsewhere), Vec::<Value>::new());
    let all = json!({ "spec": { "publishNotReadyAddresses": true } });
    assert_eq!(endpoints(&all, &elsewhere)[0]["nodeName"], "unknown");
    assert_eq!(endpoints(&json!({}), &json!({ "spec": { "nodeName": "zoneless" } }))[0]["zone"], Value::Null);
}

/// `trafficdist`'s rules.
#[test]
fn hints_follow_the_wish_for_near_traffic() {
    let zone = json!([{ "name": "east" }]);
    let cases = [
        (json!(null), json!(null)),
        (json!("PreferClose"), json!({ "forZones": zone })),
        (json!("PreferSameZone"), json!({ "forZones": zone })),
        (json!("PreferSameNode"), json!({ "forZones": zone, "forNodes": [{ "name": "n1" }] })),
    ];
    for (wish, expected) in cases {
        let service = json!({ "spec": { "trafficDistribution": wish } });
        assert_eq!(endpoints(&service, &json!({}))[0]["hints"], expected, "{wish}");
        let unready = json!({ "status": { "conditions": [] } });
        assert_eq!(endpoints(&service, &unready)[0]["hints"], Value::Null, "{wish}");
    }
}

#[test]
fn pods_whose_named_ports_differ_are_apart() {
    let (object, service) = service(&json!({ "spec": { "ports": [
        { "name": "b", "port": 80, "protocol": "TCP", "targetPort": "web", "appProtocol": "http" },
        { "name": "a", "port": 53, "protocol": "UDP", "targetPort": 5353 },
    ] } }));
    let subject = Subject { object: &object, service: &service, zone: &zone };
    let named = |name: &str, port: i32| {
        let mut fields = json!({ "spec": { "nodeName": "n1", "containers": [
            { "name": "c", "ports": [{ "name": "web", "containerPort": port, "protocol": "TCP" }] },
        ] } });
        fields["status"] = json!({ "podIPs": [{ "ip": format!("10.244.0.{}", port - 8000) }] });
        pod(name, &fields)
    };
    let unnamed = ready_pod(&json!({}));
    let groups = subject.groups(&[named("x", 8001), named("y", 8002), unnamed], "IPv4");
    let a = || ("a".to_owned(), 5353, "UDP".to_owned(), None);
    let b = |port| ("b".to_owned(), port, "TCP".to_owned(), Some("http".to_owned()));
    let ports: Vec<_> = groups.keys().cloned().collect();
    assert_eq!(ports, [vec![a()], vec![a(), b(8001)], vec![a(), b(8002)]]);
    let slice = subject.new_slice("IPv4", &ports[1]);
    let expected = json!([
        { "name": "a", "port": 5353, "protocol": "UDP" },
        { "name": "b", "port": 8001, "protocol": "TCP", "appProtocol": "http" },
    ]);
    assert_eq!(serde_json::to_value(&slice.ports).expect("JSON"), expected);
    assert_eq!(ports_of(&slice), ports[1], "read back");
}

/// `TestSetEndpointSliceLabels`.
#[test]
fn a_slice_bears_its_services_labels_and_its_own() {
    let own = |headless: bool| {
        let mut labels = json!({ SERVICE_NAME: "s", MANAGED_BY: "endpointslice-controller.k8s.io", "mine": "m" });
        if headless {
            labels["service.kubernetes.io/headless"] = json!("");
        }
        labels
    };
    let cases = [
        (json!({}), own(false)),
        (json!({ "spec": { "clusterIP": "None" } }), own(true)),
        (
            json!({ "metadata": { "labels": { SERVICE_NAME: "x", MANAGED_BY: "x", "service.kubernetes.io/headless": "x" } } }),
            own(false),
        ),
    ];
    for (fields, expected) in cases {
        let (object, service) = service(&fields);
        let subject = Subject { object: &object, service: &service, zone: &zone };
        assert_eq!(json!(subject.labels()), expected, "{fields}");
    }
}

#[test]
fn a_new_slice_is_the_services() {
    let (object, service) = service(&json!({}));
    let subject = Subject { object: &object, service: &service, zone: &zone };
    let slice = subject.new_slice("IPv6", &Ports::new());
    assert!(subject.owns(&slice));
    let mut value = serde_json::to_value(slice).expect("JSON");
    value["metadata"]["labels"] = json!(null);
    let owner = json!({
        "apiVersion": "v1", "kind": "Service", "name": "s", "uid": "s", "controller": true, "blockOwnerDeletion": true,
    });
    let expected = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "generateName": "s-", "namespace": "n", "labels": null, "ownerReferences": [owner] },
        "addressType": "IPv6", "endpoints": [], "ports": [],
    });
    assert_eq!(value, expected);
}

/// `TestGetAddressTypesForService`.
#[test]
fn families_come_from_the_service() {
    let cases = [
        (json!({ "ipFamilies": ["IPv4"] }), vec!["IPv4"]),
        (json!({ "ipFamilies": ["IPv6", "IPv4"] }), vec!["IPv4", "IPv6"]),
        (json!({ "ipFamilies": null, "clusterIP": "10.0.0.1" }), vec!["IPv4"]),
        (json!({ "ipFamilies": null, "clusterIP": "fd00::1" }), vec!["IPv6"]),
        (json!({ "ipFamilies": null, "clusterIP": "None" }), vec!["IPv4", "IPv6"]),
    ];
    for (spec, expected) in cases {
        let (object, service) = service(&json!({ "spec": spec }));
        let subject = Subject { object: &object, service: &service, zone: &zone };
        assert_eq!(subject.address_types(), expected, "{spec}");
    }
}
