//! Cases of upstream's `endpoints_controller_test.go` and `api/v1/endpoints/util_test.go`.

use serde_json::{Value, json};

use super::*;
use crate::testing::{object, pod, with};

fn subsets_of(service_fields: &Value, pods: &[Pod]) -> Value {
    let base = json!({ "spec": {
        "clusterIP": "10.96.0.10", "ipFamilies": ["IPv4"],
        "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }],
    } });
    let object = object("s", &with(&base, service_fields));
    let service = serde_json::from_slice(object.json()).expect("a Service");
    json!(subsets(&object, &service, pods))
}

fn make(n: usize, ready: bool, fields: &Value) -> Pod {
    let ready = if ready { "True" } else { "False" };
    let base = json!({
        "spec": { "nodeName": "n1" },
        "status": {
            "podIP": format!("10.244.0.{n}"), "podIPs": [{ "ip": format!("10.244.0.{n}") }, { "ip": format!("fd00::{n}") }],
            "conditions": [{ "type": "Ready", "status": ready }],
        },
    });
    pod(&format!("p{n}"), &with(&base, fields))
}

fn address(n: usize) -> Value {
    json!({
        "ip": format!("10.244.0.{n}"), "nodeName": "n1",
        "targetRef": { "kind": "Pod", "name": format!("p{n}"), "namespace": "n", "uid": format!("p{n}") },
    })
}

#[test]
fn ready_pods_are_addresses_and_others_are_not_ready_ones() {
    let going = json!({ "metadata": { "deletionTimestamp": "2030-01-01T00:00:00Z" } });
    let pods =
        [make(2, true, &json!({})), make(1, true, &json!({})), make(3, false, &json!({})), make(4, true, &going)];
    let ports = json!([{ "port": 8080, "protocol": "TCP" }]);
    let expected =
        json!([{ "addresses": [address(1), address(2)], "notReadyAddresses": [address(3)], "ports": ports }]);
    assert_eq!(subsets_of(&json!({}), &pods), expected);
    let all = json!([{ "addresses": [address(1), address(2), address(3), address(4)], "ports": ports }]);
    assert_eq!(subsets_of(&json!({ "spec": { "publishNotReadyAddresses": true } }), &pods), all);
    assert_eq!(subsets_of(&json!({}), &[]), json!([]));
}

/// `TestRepackSubsets`: addresses with the same ports are together, those with others apart.
#[test]
fn subsets_are_what_ports_have_in_common() {
    let with_port = |n: usize, port: i32| {
        let ports = json!([{ "name": "web", "containerPort": port, "protocol": "TCP" }]);
        make(n, true, &json!({ "spec": { "containers": [{ "name": "c", "ports": ports }] } }))
    };
    let service = json!({ "spec": { "ports": [
        { "name": "b", "port": 80, "protocol": "TCP", "targetPort": "web" },
        { "name": "a", "port": 53, "protocol": "UDP", "targetPort": 5353 },
    ] } });
    let (a, b) = (
        json!({ "name": "a", "port": 5353, "protocol": "UDP" }),
        |port: i32| json!({ "name": "b", "port": port, "protocol": "TCP" }),
    );
    let same = json!([{ "addresses": [address(1), address(2)], "ports": [a, b(80)] }]);
    assert_eq!(subsets_of(&service, &[with_port(1, 80), with_port(2, 80)]), same);
    let apart = json!([
        { "addresses": [address(1)], "ports": [b(80)] },
        { "addresses": [address(1), address(2)], "ports": [a] },
        { "addresses": [address(2)], "ports": [b(81)] },
    ]);
    assert_eq!(subsets_of(&service, &[with_port(1, 80), with_port(2, 81)]), apart);
}

#[test]
fn a_headless_service_needs_no_ports() {
    let headless = json!({ "spec": { "clusterIP": "None", "ports": null } });
    assert_eq!(subsets_of(&headless, &[make(1, true, &json!({}))]), json!([{ "addresses": [address(1)] }]));
    assert_eq!(subsets_of(&json!({ "spec": { "ports": null } }), &[make(1, true, &json!({}))]), json!([]));
}

/// `TestPodToEndpointAddressForService`.
#[test]
fn the_address_is_of_the_services_first_family() {
    let cases = [
        (json!({ "ipFamilies": ["IPv6", "IPv4"] }), "fd00::1"),
        (json!({ "ipFamilies": null, "clusterIP": "fd00:96::1" }), "fd00::1"),
        (json!({ "ipFamilies": null, "clusterIP": "None" }), "10.244.0.1"),
    ];
    for (spec, expected) in cases {
        let subsets = subsets_of(&json!({ "spec": spec }), &[make(1, true, &json!({}))]);
        assert_eq!(subsets[0]["addresses"][0]["ip"], expected, "{spec}");
    }
    let named = make(1, true, &json!({ "spec": { "hostname": "h", "subdomain": "s" } }));
    assert_eq!(subsets_of(&json!({}), &[named])[0]["addresses"][0]["hostname"], "h");
}

/// `TestTruncateEndpoints`: ready and other addresses of each subset, before and after.
#[test]
fn too_many_addresses_are_cut_in_proportion() {
    type Case<'a> = (&'a str, &'a [(usize, usize)], bool, &'a [(usize, usize)]);
    let cases: [Case<'_>; 6] = [
        ("few", &[(500, 100)], false, &[(500, 100)]),
        ("just enough", &[(500, 500)], false, &[(500, 500)]),
        ("others are cut", &[(500, 501)], true, &[(500, 500)]),
        ("of several subsets", &[(200, 400), (200, 400)], true, &[(200, 300), (200, 300)]),
        ("ready ones are cut, others go", &[(2000, 5)], true, &[(1000, 0)]),
        ("in proportion", &[(3000, 0), (1000, 9)], true, &[(750, 0), (250, 0)]),
    ];
    for (case, before, expected_cut, after) in cases {
        let list = |count: usize| Some(vec![EndpointAddress::default(); count]).filter(|list| !list.is_empty());
        let mut subsets: Vec<_> = before
            .iter()
            .map(|(ready, others)| EndpointSubset {
                addresses: list(*ready),
                not_ready_addresses: list(*others),
                ports: None,
            })
            .collect();
        assert_eq!(truncate(&mut subsets, MOST_ADDRESSES), expected_cut, "{case}");
        let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
        let counts: Vec<_> = subsets.iter().map(|s| (count(&s.addresses), count(&s.not_ready_addresses))).collect();
        assert_eq!(counts, after, "{case}");
    }
}
