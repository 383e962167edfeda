//! Containers that live and die together.

mod columns;
mod containers;
mod defaults;
mod ephemeral;
pub mod placement;
mod probes;
mod qos;
mod template;
mod update;
mod validation;
mod volumes;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub use defaults::template as default_template;
pub use template::{template, template_for_replicas};

use crate::field::{FieldError, FieldErrors};

use crate::kind::{Kind, Subresource};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{flag, list, text};

pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[
        Subresource { name: "attach", kind: "PodAttachOptions", group_version: None, verbs: verbs::CONNECT },
        Subresource { name: "binding", kind: "Binding", group_version: None, verbs: verbs::CREATE },
        Subresource { name: "ephemeralcontainers", kind: "Pod", group_version: None, verbs: verbs::CHANGE },
        Subresource { name: "eviction", kind: "Eviction", group_version: Some(("policy", "v1")), verbs: verbs::CREATE },
        Subresource { name: "exec", kind: "PodExecOptions", group_version: None, verbs: verbs::CONNECT },
        Subresource { name: "log", kind: "Pod", group_version: None, verbs: &["get"] },
        Subresource { name: "portforward", kind: "PodPortForwardOptions", group_version: None, verbs: verbs::CONNECT },
        subresources::proxy("PodProxyOptions"),
        Subresource { name: "resize", kind: "Pod", group_version: None, verbs: verbs::CHANGE },
        subresources::status("Pod"),
    ],
    parts: &[("ephemeralcontainers", ephemeral::PART)],
    schema: schema_of::<Pod>,
    columns: columns::COLUMNS,
    row: columns::row,
    default: defaults::pod,
    validate,
    prepare,
    selectable,
    selectable_names: SELECTABLE,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};

const SELECTABLE: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

fn selectable(pod: &Value) -> Vec<(&'static str, String)> {
    let ip = text(pod, "/status/podIPs/0/ip");
    vec![
        ("spec.hostNetwork", flag(pod, "/spec/hostNetwork").to_string()),
        ("spec.nodeName", text(pod, "/spec/nodeName").to_owned()),
        ("spec.restartPolicy", text(pod, "/spec/restartPolicy").to_owned()),
        ("spec.schedulerName", text(pod, "/spec/schedulerName").to_owned()),
        ("spec.serviceAccountName", text(pod, "/spec/serviceAccountName").to_owned()),
        ("status.nominatedNodeName", text(pod, "/status/nominatedNodeName").to_owned()),
        ("status.phase", text(pod, "/status/phase").to_owned()),
        ("status.podIP", ip.to_owned()),
        ("status.podIPs", ip.to_owned()),
    ]
}

fn prepare(pod: &mut Value, old: Option<&Value>) {
    if old.is_none() && pod.is_object() {
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(pod)});
        if !list(pod, "/spec/schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        pod["status"] = status;
    }
}

fn validate(pod: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    validation::pod_spec(&mut errors, "spec", spec, validation::Holder::Pod);
    match old {
        Some(old) => update::update(&mut errors, pod, old),
        None => {
            if !list(spec, "/ephemeralContainers").is_empty() {
                errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
            }
            if !text(spec, "/nodeName").is_empty() && !list(spec, "/schedulingGates").is_empty() {
                errors.push(FieldError::forbidden(
                    "spec.nodeName",
                    "cannot be set until all schedulingGates have been cleared",
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests;
