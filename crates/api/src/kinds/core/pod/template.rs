//! What upstream checks of a pod's template in a workload (`ValidatePodTemplateSpec`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::validation::{Holder, pod_spec};
use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{invalid, labels, one_of};
use crate::kinds::walk::{entries, list, some, text};
use crate::{Selector, names};

pub fn template(errors: &mut FieldErrors, path: &str, template: &Value) {
    labels(errors, &format!("{path}.labels"), template, "/metadata/labels");
    for (key, _) in entries(template, "/metadata/annotations") {
        // Keys of annotations may be of either case.
        invalid(errors, &format!("{path}.annotations"), key, names::qualified_name(&key.to_lowercase()));
    }
    let spec = template.get("spec").unwrap_or(&Value::Null);
    pod_spec(errors, &format!("{path}.spec"), spec, Holder::Template);
    if !list(spec, "/ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            format!("{path}.spec.ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

/// The same for workloads that keep pods running: the selector has to find them, and they have to be restarted.
/// `kind` is as upstream names it in the message about deadlines.
pub fn template_for_replicas(errors: &mut FieldErrors, path: &str, spec: &Value, kind: &str) {
    let held = spec.get("template").unwrap_or(&Value::Null);
    let (path, selector_path) = (format!("{path}.template"), format!("{path}.selector"));
    let finds = match some(spec, "/selector") {
        // No selector selects nothing.
        None => false,
        Some(selector) => {
            let parsed = serde_json::from_value(selector.clone()).ok();
            let Some(parsed) = parsed.and_then(|parsed| Selector::from_label_selector(&parsed).ok()) else {
                let detail = if kind == "StatefulSet" { "" } else { "invalid label selector" };
                return errors.push(FieldError::invalid(selector_path, selector, detail));
            };
            parsed.is_empty() || parsed.matches(&labels_of(held))
        }
    };
    if !finds {
        let labels = held.pointer("/metadata/labels").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(
            format!("{path}.metadata.labels"),
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    template(errors, &path, held);
    let restart = text(held, "/spec/restartPolicy");
    if !restart.is_empty() {
        one_of(errors, &format!("{path}.spec.restartPolicy"), restart, &["Always"]);
    }
    if some(held, "/spec/activeDeadlineSeconds").is_some() {
        errors.push(FieldError::forbidden(
            format!("{path}.spec.activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
}

/// A template's labels.
pub fn labels_of(template: &Value) -> BTreeMap<String, String> {
    entries(template, "/metadata/labels")
        .filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned())))
        .collect()
}
