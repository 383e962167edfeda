//! Admission policies of both sorts, and their bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kinds::cells::{self, UNSET};
use crate::kinds::check::required;
use crate::kinds::walk::{each, field, fill, list, some, sub, text};

pub fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let expressions = list(object, "/spec/validations").len() + list(object, "/spec/mutations").len();
    let kind = match some(object, "/spec/paramKind") {
        None => UNSET.to_owned(),
        Some(kind) => format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")),
    };
    vec![cells::name(object), expressions.into(), kind.into(), age_of(object, now)]
}

pub fn binding_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = match some(object, "/spec/paramRef") {
        None => UNSET.to_owned(),
        Some(parameters) => match (text(parameters, "/namespace"), text(parameters, "/name")) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    };
    vec![cells::name(object), text(object, "/spec/policyName").into(), parameters.into(), age_of(object, now)]
}

pub fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "failurePolicy", "Fail");
    if let Some(matched) = field(spec, "matchConstraints") {
        constraints(matched);
    }
}

pub fn default_binding(object: &mut Value) {
    if let Some(matched) = field(object, "spec").and_then(|spec| field(spec, "matchResources")) {
        constraints(matched);
    }
}

fn constraints(matched: &mut Value) {
    fill(matched, "matchPolicy", "Equivalent");
    fill(matched, "namespaceSelector", json!({}));
    fill(matched, "objectSelector", json!({}));
    for key in ["resourceRules", "excludeResourceRules"] {
        for rule in each(matched, key) {
            fill(rule, "scope", "*");
        }
    }
}

pub fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if list(object, "/spec/matchConstraints/resourceRules").is_empty() {
        let path = match some(object, "/spec/matchConstraints") {
            None => "spec.matchConstraints",
            Some(_) => "spec.matchConstraints.resourceRules",
        };
        errors.push(FieldError::required(path, ""));
    }
    for (i, validation) in list(object, "/spec/validations").iter().enumerate() {
        if text(validation, "/expression").trim().is_empty() {
            errors
                .push(FieldError::required(format!("spec.validations[{i}].expression"), "expression is not specified"));
        }
    }
    errors
}

pub fn validate_binding(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "spec.policyName", text(object, "/spec/policyName"));
    errors
}
