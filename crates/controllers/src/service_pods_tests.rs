//! Cases of upstream's `endpointslice/util/controller_utils_test.go` and `utils_test.go`.

use serde_json::{Value, json};

use super::*;
use crate::testing::{object, pod, with};

fn service(spec: &Value) -> Service {
    serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": spec })).expect("a Service")
}

fn change(old: Option<&Value>, new: Option<&Value>) -> Change {
    let make = |fields: &Value| object("p", fields);
    Change { old: old.map(make), new: new.map(make) }
}

fn added(name: &str, spec: &Value) -> Change {
    Change { old: None, new: Some(object(name, &json!({ "spec": spec }))) }
}

#[test]
fn a_pod_concerns_the_services_that_have_or_had_it() {
    let selectors = Selectors::default();
    selectors.note(&added("app", &json!({ "selector": { "app": "a" } })));
    selectors.note(&added("tier", &json!({ "selector": { "tier": "t" } })));
    selectors.note(&added("both", &json!({ "selector": { "app": "a", "tier": "t" } })));
    selectors.note(&added("none", &json!({})));
    selectors.note(&added("external", &json!({ "type": "ExternalName", "selector": { "app": "a" } })));
    let labeled = |labels: Value| json!({ "metadata": { "labels": labels } });
    let (app, tier, both) =
        (labeled(json!({ "app": "a" })), labeled(json!({ "tier": "t" })), labeled(json!({ "app": "a", "tier": "t" })));
    let cases: [(&str, Change, &[&str]); 5] = [
        ("new", change(None, Some(&app)), &["app"]),
        ("gone", change(Some(&both), None), &["app", "both", "tier"]),
        ("other labels", change(Some(&app), Some(&tier)), &["app", "tier"]),
        (
            "nothing that matters",
            change(Some(&app), Some(&with(&app, &json!({ "metadata": { "annotations": { "x": "y" } } })))),
            &[],
        ),
        ("nobody's", change(None, Some(&labeled(json!({})))), &[]),
    ];
    for (case, change, expected) in cases {
        let names: Vec<_> = selectors.of(&change).into_iter().map(|key| key.name).collect();
        assert_eq!(names, expected, "{case}");
    }
    let gone = Change { old: added("app", &json!({})).new, new: None };
    selectors.note(&gone);
    assert_eq!(selectors.of(&change(None, Some(&app))), [], "its Service is gone");
}

/// `TestPodEndpointsChanged`.
#[test]
fn only_what_endpoints_are_made_of_matters() {
    let base = json!({
        "metadata": { "labels": { "app": "a" } }, "spec": { "nodeName": "n" },
        "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    let cases = [
        ("annotation", json!({ "metadata": { "annotations": { "x": "y" } } }), false),
        ("restart", json!({ "status": { "containerStatuses": [{ "name": "c", "restartCount": 1 }] } }), false),
        ("readiness", json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }), true),
        ("address", json!({ "status": { "podIPs": [{ "ip": "10.0.0.2" }] } }), true),
        ("another address", json!({ "status": { "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] } }), true),
        ("deletion", json!({ "metadata": { "deletionTimestamp": "2030-01-01T00:00:00Z" } }), true),
        ("end", json!({ "status": { "phase": "Succeeded" } }), true),
        ("labels", json!({ "metadata": { "labels": { "b": "c" } } }), true),
        ("hostname", json!({ "spec": { "hostname": "h" } }), true),
        ("subdomain", json!({ "spec": { "subdomain": "s" } }), true),
    ];
    for (case, fields, expected) in cases {
        let (old, new) = (pod("p", &base), pod("p", &with(&base, &fields)));
        assert_eq!(relevant(&old) != relevant(&new), expected, "{case}");
    }
}

/// `TestShouldPodBeInEndpoints`, terminating ones included.
#[test]
fn a_pod_with_an_address_that_has_not_ended_is_in() {
    let of = |labels: Value, status: Value, going: bool| {
        let deletion = if going { json!("2030-01-01T00:00:00Z") } else { Value::Null };
        pod("p", &json!({ "metadata": { "labels": labels, "deletionTimestamp": deletion }, "status": status }))
    };
    let matching = || json!({ "app": "a", "more": "m" });
    let address = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }] });
    let cases = [
        ("running", of(matching(), address.clone(), false), true),
        ("terminating", of(matching(), address.clone(), true), true),
        ("other labels", of(json!({ "app": "b" }), address.clone(), false), false),
        ("no address yet", of(matching(), json!({ "phase": "Pending" }), false), false),
        ("failed", of(matching(), with(&address, &json!({ "phase": "Failed" })), false), false),
        ("succeeded", of(matching(), with(&address, &json!({ "phase": "Succeeded" })), true), false),
    ];
    let selected = service(&json!({ "selector": { "app": "a" } }));
    for (case, pod, expected) in cases {
        let pods = pods_of(&selected, &[pod]).expect("it selects");
        assert_eq!(!pods.is_empty(), expected, "{case}");
    }
    assert!(pods_of(&service(&json!({})), &[]).is_none());
}

/// `TestFindPort`.
#[test]
fn a_port_is_a_number_or_a_name_of_the_pods() {
    let pod = pod(
        "p",
        &json!({ "spec": {
        "containers": [
            { "name": "c", "ports": [{ "name": "q", "containerPort": 1234, "protocol": "TCP" }] },
            { "name": "d", "ports": [
                { "name": "p", "containerPort": 5678, "protocol": "TCP" },
                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
            ] },
        ],
        "initContainers": [
            { "name": "s", "restartPolicy": "Always", "ports": [{ "name": "side", "containerPort": 90, "protocol": "TCP" }] },
            { "name": "i", "ports": [{ "name": "init", "containerPort": 91, "protocol": "TCP" }] },
        ],
    } }),
    );
    let cases = [
        (json!({ "port": 80, "targetPort": 8080 }), Some(8080)),
        (json!({ "port": 80, "targetPort": "p" }), Some(5678)),
        (json!({ "port": 80, "targetPort": "q", "protocol": "TCP" }), Some(1234)),
        (json!({ "port": 80, "targetPort": "dns", "protocol": "UDP" }), Some(53)),
        (json!({ "port": 80, "targetPort": "dns", "protocol": "TCP" }), None),
        (json!({ "port": 80, "targetPort": "side" }), Some(90)),
        (json!({ "port": 80, "targetPort": "init" }), None),
        (json!({ "port": 80, "targetPort": "absent" }), None),
    ];
    for (port, expected) in cases {
        let parsed: ServicePort = serde_json::from_value(port.clone()).expect("a port");
        assert_eq!(target_port(&pod, &parsed), expected, "{port}");
    }
}

#[test]
fn addresses_are_of_one_family_and_written_as_usual() {
    let pod =
        pod("p", &json!({ "status": { "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "FD00:0::1" }, { "ip": "odd" }] } }));
    assert_eq!(addresses(&pod, false), ["10.0.0.1"]);
    assert_eq!(addresses(&pod, true), ["fd00::1"]);
}
