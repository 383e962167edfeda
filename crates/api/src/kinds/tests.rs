//! What holds for every entry of the table.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::all;

#[test]
fn entries_are_whole_and_unique() {
    let mut seen = BTreeSet::new();
    for kind in all() {
        let name = format!("{}/{} {}", kind.group, kind.version, kind.kind);
        assert!(seen.insert((kind.group, kind.version, kind.plural)), "{name} is there twice");
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty() && !kind.verbs.is_empty(), "{name}");
        assert_eq!(kind.singular, kind.kind.to_lowercase(), "{name}");
        assert!(kind.verbs.is_sorted(), "{name}: discovery lists verbs in order");
        assert!(kind.subresources.is_sorted_by_key(|sub| sub.name), "{name}: and subresources");
        let mut generator = SchemaGenerator::default();
        let schema = (kind.schema)(&mut generator);
        let reference = schema.as_value()["$ref"].as_str().unwrap_or_default();
        assert!(reference.ends_with(&format!("{}.{}", kind.version, kind.kind)), "{name}: {reference}");
    }
}

/// Upstream's server lists these (`kubectl api-resources` of 1.36 with stable APIs only).
#[test]
fn every_stable_kind_is_served() {
    let count = |group: &str| all().iter().filter(|kind| kind.group == group).count();
    let groups = [
        ("", 17),
        ("admissionregistration.k8s.io", 6),
        ("apiextensions.k8s.io", 1),
        ("apiregistration.k8s.io", 1),
        ("apps", 5),
        ("authentication.k8s.io", 2),
        ("authorization.k8s.io", 4),
        ("autoscaling", 2),
        ("batch", 2),
        ("certificates.k8s.io", 1),
        ("coordination.k8s.io", 1),
        ("discovery.k8s.io", 1),
        ("events.k8s.io", 1),
        ("flowcontrol.apiserver.k8s.io", 2),
        ("networking.k8s.io", 5),
        ("node.k8s.io", 1),
        ("policy", 1),
        ("rbac.authorization.k8s.io", 4),
        ("resource.k8s.io", 4),
        ("scheduling.k8s.io", 1),
        ("storage.k8s.io", 6),
    ];
    for (group, kinds) in groups {
        assert_eq!(count(group), kinds, "{group}");
    }
    assert_eq!(all().len(), groups.iter().map(|(_, kinds)| kinds).sum::<usize>());
}

/// Values that no schema would let through, and none of which may make the table's functions panic.
fn odd_objects() -> Vec<Value> {
    let odd = [json!(null), json!(7), json!("x"), json!([]), json!([1, "x", null, [], {}]), json!({})];
    let mut objects: Vec<Value> = odd.to_vec();
    let keys =
        ["metadata", "spec", "status", "data", "rules", "subsets", "webhooks", "template", "roleRef", "subjects"];
    for value in &odd {
        objects.extend(keys.iter().map(|key| json!({*key: value})));
        let fields =
            ["containers", "template", "ports", "selector", "versions", "volumes", "limits", "names", "jobTemplate"];
        objects.extend(fields.iter().map(|key| json!({"spec": {*key: value}})));
        for list in ["containers", "ports", "volumes", "limits", "rules", "metrics"] {
            let inner = ["name", "ports", "env", "resources", "port", "nodePort", "secret", "http", "type", "resource"];
            objects.extend(inner.iter().map(|key| json!({"spec": {list: [{*key: value}, value]}})));
        }
    }
    objects
}

#[test]
fn nothing_panics_and_defaults_settle() {
    let objects = odd_objects();
    for kind in all() {
        for object in &objects {
            let mut made = object.clone();
            (kind.prepare)(&mut made, None);
            (kind.prepare)(&mut made, Some(object));
            (kind.default)(&mut made);
            let once = made.clone();
            (kind.default)(&mut made);
            assert_eq!(made, once, "{}: defaults set twice are as set once, of {object}", kind.kind);
            (kind.validate)(&made, None);
            (kind.validate)(&made, Some(object));
            let cells = (kind.row)(&made, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), kind.columns.len(), "{}", kind.kind);
            let fields: Vec<&str> = (kind.selectable)(&made).into_iter().map(|(name, _)| name).collect();
            assert_eq!(fields, kind.selectable_names, "{}", kind.kind);
        }
    }
}
