//! A machine that runs pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, UNKNOWN, or};
use crate::kinds::check::{invalid, one_of};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{entries, field, fill, flag, list, some, text};
use crate::names;

pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::proxy("NodeProxyOptions"), subresources::status("Node")],
    columns: COLUMNS,
    row,
    default,
    validate,
    selectable: |object| vec![("spec.unschedulable", flag(object, "/spec/unschedulable").to_string())],
    selectable_names: &["spec.unschedulable"],
    // A kubelet that joins says how its node is.
    new_status: || None,
    schema: schema_of::<Node>,
    status_on_create: true,
    acted_on: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether it's ready, and whether it takes new pods."),
    Column::text("Roles", "What the node is for, by its labels."),
    Column::AGE,
    Column::text("Version", "Version of its kubelet."),
    Column::text("Internal-IP", "Its address inside the cluster.").wide(),
    Column::text("External-IP", "Its address outside, if it has one.").wide(),
    Column::text("OS-Image", "Its operating system.").wide(),
    Column::text("Kernel-Version", "Its kernel.").wide(),
    Column::text("Container-Runtime", "What runs its containers, and in which version.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == "Ready");
    let mut status = match ready {
        Some(condition) if text(condition, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(object, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |r#type: &str| {
        let found = list(object, "/status/addresses").iter().find(|address| text(address, "/type") == r#type);
        or(found.map_or("", |address| text(address, "/address")), NONE)
    };
    vec![
        cells::name(object),
        status.into(),
        or(&roles(object).join(","), NONE),
        age_of(object, now),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(text(object, "/status/nodeInfo/osImage"), UNKNOWN),
        or(text(object, "/status/nodeInfo/kernelVersion"), UNKNOWN),
        or(text(object, "/status/nodeInfo/containerRuntimeVersion"), UNKNOWN),
    ]
}

fn roles(object: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = entries(object, "/metadata/labels")
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => value.as_str(),
            _ => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn default(object: &mut Value) {
    if let Some(status) = field(object, "status")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        fill(status, "allocatable", capacity);
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    // Upstream's errors say `metadata.taints`, though the field is in `spec`.
    let taints = list(object, "/spec/taints");
    for (i, taint) in taints.iter().enumerate() {
        let path = format!("metadata.taints[{i}]");
        let (key, value, effect) = (text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"));
        invalid(&mut errors, &format!("{path}.key"), key, names::qualified_name(key));
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(format!("{path}.value"), &value.into(), &wrong.join(";")));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        one_of(&mut errors, &format!("{path}.effect"), effect, &effects);
        let twin = |earlier: &Value| text(earlier, "/key") == key && text(earlier, "/effect") == effect;
        if taints.iter().take(i).any(twin) {
            let mut twice = FieldError::duplicate(path, taint);
            twice.body.push_str(": taints must be unique by key and effect pair");
            errors.push(twice);
        }
    }
    let Some(old) = old else { return errors };
    for (key, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let pointer = format!("/spec/{key}");
        let was = some(old, &pointer).filter(|was| !crate::kinds::walk::is_zero(was));
        if was.is_some() && was != some(object, &pointer) {
            errors.push(FieldError::forbidden(
                format!("spec.{key}"),
                &format!("node updates may not change {shown} except from \"\" to valid"),
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_upstreams() {
        let object = json!({
            "metadata": {"name": "n", "labels": {
                "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge",
            }},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0"},
            },
        });
        let row = row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(row.len(), COLUMNS.len());
        let expected = [
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,edge",
            "<unknown>",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ];
        assert_eq!(row, expected);
    }
}
