//! What of a running pod may change (`ValidatePodUpdate`): images, the deadline, added tolerations, little else.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::walk::{each, int, list, some, text, without};

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn update(errors: &mut FieldErrors, pod: &Value, old: &Value) {
    for key in ["containers", "initContainers"] {
        let pointer = format!("/spec/{key}");
        if list(pod, &pointer).len() != list(old, &pointer).len() {
            errors.push(FieldError::forbidden(format!("spec.{key}"), "pod updates may not add or remove containers"));
            return;
        }
    }
    if let Some(wrong) = deadline(pod, old) {
        errors.push(wrong);
        return;
    }
    let kept = list(old, "/spec/tolerations").iter().all(|toleration| {
        let kept = without(toleration, &["tolerationSeconds"]);
        list(pod, "/spec/tolerations").iter().any(|now| without(now, &["tolerationSeconds"]) == kept)
    });
    if !kept {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    gates(errors, pod, old);
    let (now, was) = (frozen(pod, old), frozen(old, old));
    if now != was {
        errors.push(FieldError::forbidden("spec", &format!("{FORBIDDEN}\n{}", difference(&was, &now))));
    }
}

fn deadline(pod: &Value, old: &Value) -> Option<FieldError> {
    let pointer = "/spec/activeDeadlineSeconds";
    let wrong = match (int(pod, pointer), int(old, pointer)) {
        (Some(now), Some(was)) if now > was => "must be less than or equal to previous value",
        (None, Some(_)) => "must not update from a positive integer to nil value",
        _ => return None,
    };
    let now = pod.pointer(pointer).unwrap_or(&Value::Null);
    Some(FieldError::invalid("spec.activeDeadlineSeconds", now, wrong))
}

fn gates(errors: &mut FieldErrors, pod: &Value, old: &Value) {
    for (i, gate) in list(pod, "/spec/schedulingGates").iter().enumerate() {
        if !list(old, "/spec/schedulingGates").contains(gate) {
            errors.push(FieldError::forbidden(
                format!("spec.schedulingGates[{i}].name"),
                "only deletion is allowed, but found new scheduling gate",
            ));
        }
    }
}

/// The spec without what may change.
fn frozen(pod: &Value, old: &Value) -> Value {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut spec = without(spec, &["activeDeadlineSeconds", "tolerations", "schedulingGates"]);
    for key in ["containers", "initContainers"] {
        for container in each(&mut spec, key) {
            *container = without(container, &["image"]);
        }
    }
    if int(old, "/spec/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && int(pod, "/spec/terminationGracePeriodSeconds") == Some(1)
    {
        spec["terminationGracePeriodSeconds"] = old["spec"]["terminationGracePeriodSeconds"].clone();
    }
    // A pod that is held back by a gate may still say more about where it wants to go.
    if !list(old, "/spec/schedulingGates").is_empty()
        && some(old, "/spec/nodeName").is_none_or(|_| text(old, "/spec/nodeName").is_empty())
    {
        spec = without(&spec, &["nodeSelector", "affinity"]);
    }
    spec
}

/// The fields that differ, one a line: what was after `-`, what would be after `+`.
pub fn difference(was: &Value, now: &Value) -> String {
    let (Some(old), Some(new)) = (was.as_object(), now.as_object()) else { return String::new() };
    let mut lines = String::new();
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        for (sign, value) in [('-', before), ('+', after)] {
            if let Some(value) = value {
                lines.push_str(&format!("{sign} {key}: {value}\n"));
            }
        }
    }
    lines
}
