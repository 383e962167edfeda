//! Webhooks of both sorts.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::Column;
use crate::kinds::cells;
use crate::kinds::check::{in_range, label_selector, one_of, required};
use crate::kinds::walk::{each, field, fill, list, some, text};

pub const COLUMNS: &[Column] = &[Column::NAME, Column::number("Webhooks", "How many webhooks it has."), Column::AGE];

pub fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), list(object, "/webhooks").len().into(), age_of(object, now)]
}

pub fn default_mutating(object: &mut Value) {
    default(object);
    for webhook in each(object, "webhooks") {
        fill(webhook, "reinvocationPolicy", "Never");
    }
}

pub fn default(object: &mut Value) {
    for webhook in each(object, "webhooks") {
        fill(webhook, "failurePolicy", "Fail");
        fill(webhook, "matchPolicy", "Equivalent");
        fill(webhook, "namespaceSelector", json!({}));
        fill(webhook, "objectSelector", json!({}));
        fill(webhook, "timeoutSeconds", 10);
        for rule in each(webhook, "rules") {
            fill(rule, "scope", "*");
        }
        if let Some(service) = field(webhook, "clientConfig").and_then(|config| field(config, "service")) {
            fill(service, "port", 443);
        }
    }
}

pub fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let webhooks = list(object, "/webhooks");
    for (i, webhook) in webhooks.iter().enumerate() {
        let path = format!("webhooks[{i}]");
        one_webhook(&mut errors, &path, webhook);
        let name = text(webhook, "/name");
        if webhooks.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
    }
    errors
}

fn one_webhook(errors: &mut FieldErrors, path: &str, webhook: &Value) {
    let name = text(webhook, "/name");
    required(errors, &format!("{path}.name"), name);
    if !name.is_empty() && name.split('.').count() < 3 {
        errors.push(FieldError::invalid(
            format!("{path}.name"),
            &name.into(),
            "should be a domain with at least three segments separated by dots",
        ));
    }
    rules(errors, path, list(webhook, "/rules"));
    one_of(errors, &format!("{path}.failurePolicy"), text(webhook, "/failurePolicy"), &["Fail", "Ignore"]);
    one_of(errors, &format!("{path}.matchPolicy"), text(webhook, "/matchPolicy"), &["Equivalent", "Exact"]);
    let effects = text(webhook, "/sideEffects");
    if effects.is_empty() {
        errors.push(FieldError::required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun"));
    } else {
        one_of(errors, &format!("{path}.sideEffects"), effects, &["None", "NoneOnDryRun"]);
    }
    in_range(errors, path, webhook, "timeoutSeconds", 1, 30);
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = some(webhook, &format!("/{key}")) {
            label_selector(errors, &format!("{path}.{key}"), selector);
        }
    }
    let config = ["url", "service"];
    if config.iter().filter(|key| some(webhook, &format!("/clientConfig/{key}")).is_some()).count() != 1 {
        errors.push(FieldError::required(format!("{path}.clientConfig"), "exactly one of url or service is required"));
    }
    if list(webhook, "/admissionReviewVersions").is_empty() {
        errors.push(FieldError::required(format!("{path}.admissionReviewVersions"), "must specify one of v1, v1beta1"));
    }
}

fn rules(errors: &mut FieldErrors, path: &str, rules: &[Value]) {
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("{path}.rules[{i}]");
        for key in ["apiGroups", "apiVersions", "operations", "resources"] {
            if list(rule, &format!("/{key}")).is_empty() {
                errors.push(FieldError::required(format!("{path}.{key}"), ""));
            }
        }
    }
}
