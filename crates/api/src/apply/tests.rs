//! The documented behaviour of server-side apply (kubernetes.io/docs/reference/using-api/server-side-apply) as cases.

use super::*;
use crate::kinds;

fn deployment(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" }, "spec": spec })
}

fn containers(containers: Value) -> Value {
    deployment(json!({ "template": { "spec": { "containers": containers } } }))
}

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, subresource: "", now: "2026-01-02T03:04:05Z".parse().expect("a time") }
}

fn kind() -> &'static Kind {
    kinds::by_kind("apps", "v1", "Deployment").expect("a served kind")
}

fn applied(live: Option<&Value>, configuration: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
    apply(kind(), live, configuration, &writer(manager), force)
}

fn updated(old: &Value, change: impl FnOnce(&mut Value), manager: &str) -> Value {
    let mut new = old.clone();
    change(&mut new);
    track(kind(), old, &mut new, &writer(manager));
    new
}

fn without_managed(mut object: Value) -> Value {
    object["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    object
}

fn fields_of<'a>(object: &'a Value, manager: &str) -> Option<&'a Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    entries.iter().find(|entry| entry["manager"] == manager).map(|entry| &entry["fieldsV1"])
}

#[test]
fn a_first_apply_makes_the_object_and_owns_what_it_says() {
    let configuration = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default", "labels": { "a": "b" } },
        "spec": { "replicas": 3, "template": { "spec": { "containers": [
            { "name": "c", "image": "x", "ports": [{ "containerPort": 80 }], "args": ["1"] },
        ] } } },
    });
    let made = applied(None, &configuration, "me", false).expect("applies");
    assert_eq!(without_managed(made.clone()), configuration);
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": { "f:labels": { "f:a": {} } },
                "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                    "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
                } } } } },
            },
        }])
    );
    // Applied twice is once, at any time.
    let later = Writer { now: "2026-02-02T03:04:05Z".parse().expect("a time"), ..writer("me") };
    assert_eq!(apply(kind(), Some(&made), &configuration, &later, false), Ok(made));
}

#[test]
fn what_others_manage_conflicts_unless_forced() {
    let made = applied(None, &deployment(json!({ "replicas": 3, "paused": true })), "me", false).expect("applies");
    let other = deployment(json!({ "replicas": 4 }));
    let error = applied(Some(&made), &other, "other", false).expect_err("a conflict");
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");

    let both = deployment(json!({ "replicas": 4, "paused": false }));
    let error = applied(Some(&made), &both, "other", false).expect_err("conflicts");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"me\":\n- .spec.paused\n- .spec.replicas"
    );

    let forced = applied(Some(&made), &other, "other", true).expect("forced");
    assert_eq!(forced["spec"], json!({ "replicas": 4, "paused": true }));
    assert_eq!(fields_of(&forced, "me"), Some(&json!({ "f:spec": { "f:paused": {} } })));
    assert_eq!(fields_of(&forced, "other"), Some(&json!({ "f:spec": { "f:replicas": {} } })));
}

#[test]
fn the_same_value_is_shared_and_outlives_one_of_its_owners() {
    let three = deployment(json!({ "replicas": 3 }));
    let made = applied(None, &three, "me", false).expect("applies");
    let shared = applied(Some(&made), &three, "other", false).expect("no conflict");
    assert!(fields_of(&shared, "me").is_some() && fields_of(&shared, "other").is_some());
    let left = applied(Some(&shared), &deployment(json!({})), "me", false).expect("applies");
    assert_eq!(left["spec"]["replicas"], 3);
    let gone = applied(Some(&left), &deployment(json!({})), "other", false).expect("applies");
    assert_eq!(gone["spec"].get("replicas"), None);
}

#[test]
fn what_a_configuration_has_lost_is_removed() {
    let made = applied(
        None,
        &containers(json!([{ "name": "a", "image": "x", "args": ["1"] }, { "name": "b", "image": "y" }])),
        "me",
        false,
    )
    .expect("applies");
    // The server's own additions to an item go with it.
    let live = updated(
        &made,
        |new| {
            for container in new["spec"]["template"]["spec"]["containers"].as_array_mut().expect("a list") {
                container["imagePullPolicy"] = "Always".into();
            }
        },
        "tug",
    );
    let lost = applied(Some(&live), &containers(json!([{ "name": "a", "image": "x" }])), "me", false).expect("applies");
    assert_eq!(
        lost["spec"]["template"]["spec"]["containers"],
        // Somebody else manages a field of "b", so that the item stays, without what only "me" had in it.
        json!([{ "name": "a", "image": "x", "imagePullPolicy": "Always" }, { "name": "b", "imagePullPolicy": "Always" }])
    );
    let lost = applied(Some(&made), &containers(json!([{ "name": "a", "image": "x" }])), "me", false).expect("applies");
    assert_eq!(lost["spec"]["template"]["spec"]["containers"], json!([{ "name": "a", "image": "x" }]));
}

#[test]
fn updates_take_what_they_change() {
    let made = applied(None, &deployment(json!({ "replicas": 3 })), "me", false).expect("applies");
    let scaled = updated(&made, |new| new["spec"]["replicas"] = 5.into(), "kubectl-edit");
    assert_eq!(fields_of(&scaled, "kubectl-edit"), Some(&json!({ "f:spec": { "f:replicas": {} } })));
    let error = applied(Some(&scaled), &deployment(json!({ "replicas": 3 })), "me", false).expect_err("a conflict");
    assert_eq!(
        error,
        ApplyError::Conflicts(vec![Conflict {
            manager: "\"kubectl-edit\" using apps/v1".into(),
            path: ".spec.replicas".into()
        }])
    );
    // A request that leaves managedFields out keeps them; one that empties them wipes them.
    let untouched =
        updated(&scaled, |new| drop(new["metadata"].as_object_mut().map(|m| m.remove("managedFields"))), "x");
    assert_eq!(untouched, scaled);
    let wiped = updated(&scaled, |new| new["metadata"]["managedFields"] = json!([]), "x");
    assert_eq!(wiped, without_managed(scaled));
}

#[test]
fn objects_never_applied_to_are_not_tracked_until_they_are() {
    let created = deployment(json!({ "replicas": 1 }));
    let changed = updated(&created, |new| new["spec"]["replicas"] = 2.into(), "kubectl-edit");
    assert_eq!(changed["metadata"].get("managedFields"), None);
    let error = applied(Some(&changed), &deployment(json!({ "replicas": 3 })), "me", false).expect_err("a conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let same = applied(Some(&changed), &deployment(json!({ "replicas": 2 })), "me", false).expect("no conflict");
    assert_eq!(same["spec"]["replicas"], 2);
}

#[test]
fn lists_keep_the_order_of_what_is_applied() {
    let made = applied(None, &containers(json!([{ "name": "a" }, { "name": "b" }])), "me", false).expect("applies");
    let injected = applied(Some(&made), &containers(json!([{ "name": "sidecar" }])), "mesh", false).expect("applies");
    let turned = containers(json!([{ "name": "b" }, { "name": "a" }, { "name": "c" }]));
    let turned = applied(Some(&injected), &turned, "me", false).expect("applies");
    let list = turned["spec"]["template"]["spec"]["containers"].as_array().expect("a list");
    let names: Vec<&str> = list.iter().filter_map(|container| container["name"].as_str()).collect();
    assert_eq!(names, ["b", "a", "sidecar", "c"]);
}

#[test]
fn malformed_configurations_are_refused() {
    let twice = containers(json!([{ "name": "a" }, { "name": "a" }]));
    assert_eq!(
        applied(None, &twice, "me", false),
        Err(ApplyError::Malformed(
            "failed to create typed patch object: .spec.template.spec.containers: duplicate entries for key [name=\"a\"]"
                .into()
        ))
    );
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        applied(None, &managed, "me", false),
        Err(ApplyError::Malformed("metadata.managedFields must be nil".into()))
    );
}

#[test]
fn status_is_its_subresources() {
    let status = json!({ "conditions": [{ "type": "Available", "status": "True" }] });
    let mut configuration = deployment(json!({ "replicas": 1 }));
    configuration["status"] = status;
    let of_status = Writer { subresource: "status", ..writer("controller") };
    let made = apply(kind(), Some(&deployment(json!({}))), &configuration, &of_status, false).expect("applies");
    assert_eq!(
        fields_of(&made, "controller"),
        Some(&json!({ "f:status": { "f:conditions": {
            "k:{\"type\":\"Available\"}": { ".": {}, "f:type": {}, "f:status": {} },
        } } }))
    );
    let entries = made["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(entries.iter().find(|e| e["manager"] == "controller").expect("an entry")["subresource"], "status");
}
