//! Containers that join a running pod to look into it: `kubectl debug` adds them through a subresource of their own, and
//! nothing takes them away again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{Surroundings, common, unique_name};
use super::update::difference;
use super::validation::{self, Holder};
use crate::field::{FieldError, FieldErrors};
use crate::kind::ObjectPart;
use crate::kinds::walk::{is_zero, list, some, text};

pub const PART: ObjectPart = ObjectPart { merge, validate };

/// What an ephemeral container may not have (upstream's allow list, turned round), in the order of upstream's type.
const FORBIDDEN: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// Upstream's `validateEphemeralContainers`.
pub fn containers(errors: &mut FieldErrors, path: &str, spec: &Value, pod: &Surroundings<'_>) {
    let mut seen: BTreeSet<&str> = ["/containers", "/initContainers"]
        .iter()
        .flat_map(|pointer| list(spec, pointer))
        .map(|container| text(container, "/name"))
        .collect();
    let targets: BTreeSet<&str> = seen.clone();
    for (i, container) in list(spec, "/ephemeralContainers").iter().enumerate() {
        let path = format!("{path}[{i}]");
        common(errors, &path, container, pod);
        unique_name(errors, &path, container, &mut seen);
        let target = text(container, "/targetContainerName");
        if !target.is_empty() && !targets.contains(target) {
            errors.push(FieldError::not_found(format!("{path}.targetContainerName"), &target.into()));
        }
        for key in FORBIDDEN {
            if some(container, &format!("/{key}")).is_some_and(|value| !is_zero(value)) {
                errors.push(FieldError::forbidden(format!("{path}.{key}"), NOT_HERE));
            }
        }
        for (n, mount) in list(container, "/volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(mount, &format!("/{key}")).is_empty() {
                    errors.push(FieldError::forbidden(format!("{path}.volumeMounts[{n}].{key}"), NOT_HERE));
                }
            }
        }
    }
}

/// Upstream's `dropNonEphemeralContainerUpdates`.
fn merge(new: Value, old: &Value) -> Value {
    let mut merged = old.clone();
    match new["spec"].get("ephemeralContainers") {
        Some(containers) => merged["spec"]["ephemeralContainers"] = containers.clone(),
        None => {
            if let Some(spec) = merged["spec"].as_object_mut() {
                spec.remove("ephemeralContainers");
            }
        }
    }
    merged
}

/// Upstream's `ValidatePodEphemeralContainersUpdate`.
fn validate(new: &Value, old: &Value) -> FieldErrors {
    if some(old, "/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
    }
    let mut errors = FieldErrors::new();
    validation::pod_spec(&mut errors, "spec", new.get("spec").unwrap_or(&Value::Null), Holder::Pod);
    let added = list(new, "/spec/ephemeralContainers");
    for held in list(old, "/spec/ephemeralContainers") {
        let name = text(held, "/name");
        let why = match added.iter().find(|container| text(container, "/name") == name) {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(now) if now != held => {
                format!("existing ephemeral containers {name:?} may not be changed\n{}", difference(held, now))
            }
            Some(_) => continue,
        };
        errors.push(FieldError::forbidden("spec.ephemeralContainers", &why));
    }
    errors
}
