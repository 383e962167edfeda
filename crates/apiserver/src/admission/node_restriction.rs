//! `NodeRestriction`: a kubelet changes its own node, and pods bound to it, nothing else.

use serde_json::Value;
use tug_api::ObjectKey;
use tug_api::kinds::core;

use super::{Operation, forbidden};
use crate::objects::Objects;
use crate::rbac::Attributes;
use crate::status::Status;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESERVED_LABELS: &str = "node-restriction.kubernetes.io/";

pub(super) fn check(
    objects: &dyn Objects,
    request: &Attributes<'_>,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(node) = request.user.node() else { return Ok(()) };
    let refuse = |why: String| Err(forbidden(request, new, &why));
    match (request.group, request.resource, request.subresource) {
        ("", "pods", "") if operation == Operation::Create => {
            let pod = new.unwrap_or(&Value::Null);
            if !pod["metadata"]["annotations"][MIRROR].is_string() {
                return refuse(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if pod["spec"]["nodeName"] != *node {
                return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
            }
        }
        ("", "pods", "" | "status" | "eviction") => {
            let bound_to = match old {
                Some(pod) => pod["spec"]["nodeName"] == *node,
                None => is_bound(objects, request, node),
            };
            let action = match (request.subresource, operation) {
                ("status", _) => "update pod status for",
                ("eviction", _) => "evict",
                (_, Operation::Delete) => "delete",
                _ => {
                    return refuse(format!(
                        "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
                    ));
                }
            };
            if !bound_to {
                return refuse(format!("node {node:?} can only {action} pods with spec.nodeName set to itself"));
            }
        }
        ("", "nodes", _) => {
            let named = new.and_then(|new| new["metadata"]["name"].as_str()).unwrap_or(request.name);
            if named != node {
                return refuse(format!("node {node:?} is not allowed to modify node {named:?}"));
            }
            let reserved = new.and_then(|new| changed_reserved_label(new, old));
            if let Some(label) = reserved {
                return refuse(format!("node {node:?} is not allowed to modify labels: {label}"));
            }
        }
        ("", "serviceaccounts", "token") => {
            let bound = &new.unwrap_or(&Value::Null)["spec"]["boundObjectRef"];
            if bound["kind"] != "Pod" {
                return refuse("node requested token not bound to a pod".into());
            }
            let pod =
                objects.get(&core::POD, &ObjectKey::new(request.namespace, bound["name"].as_str().unwrap_or_default()));
            let Some(pod) = pod.filter(|pod| bound["uid"] == *pod.meta.uid) else {
                return refuse("node requested token bound to a pod that is gone".into());
            };
            if pod.value().is_ok_and(|pod| pod["spec"]["nodeName"] != *node) {
                return refuse("node requested token bound to a pod scheduled on a different node".into());
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_bound(objects: &dyn Objects, request: &Attributes<'_>, node: &str) -> bool {
    let pod = objects.get(&core::POD, &ObjectKey::new(request.namespace, request.name));
    // A pod that isn't there is refused later, as not found.
    pod.is_none_or(|pod| pod.value().is_ok_and(|pod| pod["spec"]["nodeName"] == *node))
}

/// The first label that is the administrators' own to set and that this write sets, changes or removes.
fn changed_reserved_label(new: &Value, old: Option<&Value>) -> Option<String> {
    let empty = serde_json::Map::new();
    let new = new["metadata"]["labels"].as_object().unwrap_or(&empty);
    let old = old.and_then(|old| old["metadata"]["labels"].as_object()).unwrap_or(&empty);
    let mut keys = new.keys().chain(old.keys()).filter(|key| key.starts_with(RESERVED_LABELS));
    keys.find(|key| new.get(*key) != old.get(*key)).cloned()
}
