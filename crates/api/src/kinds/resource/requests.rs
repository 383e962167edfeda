//! Requests for devices, in claims and in templates of claims.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{one_of, required, required_name};
use crate::kinds::walk::{each, field, fill, fill_zero, list, some, text};
use crate::names;

/// Of a claim's spec.
pub fn default(spec: &mut Value) {
    let Some(devices) = field(spec, "devices") else { return };
    for request in each(devices, "requests") {
        if let Some(exactly) = field(request, "exactly") {
            amount(exactly);
        }
        for alternative in each(request, "firstAvailable") {
            amount(alternative);
        }
    }
}

fn amount(request: &mut Value) {
    fill(request, "allocationMode", "ExactCount");
    if text(request, "/allocationMode") == "ExactCount" {
        fill_zero(request, "count", 1);
    }
    for toleration in each(request, "tolerations") {
        fill(toleration, "operator", "Equal");
    }
}

pub fn validate(errors: &mut FieldErrors, path: &str, spec: &Value) {
    let requests = list(spec, "/devices/requests");
    for (i, request) in requests.iter().enumerate() {
        let path = format!("{path}.devices.requests[{i}]");
        let name = text(request, "/name");
        required_name(errors, &format!("{path}.name"), name, names::dns1123_label);
        if requests.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        match (some(request, "/exactly"), list(request, "/firstAvailable")) {
            (None, []) => {
                errors.push(FieldError::required(&path, "exactly one of `exactly` or `firstAvailable` is required"))
            }
            (Some(_), [_, ..]) => errors.push(FieldError::invalid(
                path,
                &Value::Null,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            )),
            (Some(exactly), []) => device(errors, &format!("{path}.exactly"), exactly),
            (None, alternatives) => {
                for (n, alternative) in alternatives.iter().enumerate() {
                    device(errors, &format!("{path}.firstAvailable[{n}]"), alternative);
                }
            }
        }
    }
}

fn device(errors: &mut FieldErrors, path: &str, request: &Value) {
    required(errors, &format!("{path}.deviceClassName"), text(request, "/deviceClassName"));
    one_of(errors, &format!("{path}.allocationMode"), text(request, "/allocationMode"), &["All", "ExactCount"]);
}
