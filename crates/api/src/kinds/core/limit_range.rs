//! Bounds on what a namespace's pods may ask for.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::LimitRange;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{each, entries, field, fill, list, sub, text};

pub static LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::CREATED_AT],
    row,
    default,
    validate,
    schema: schema_of::<LimitRange>,
    create_on_update: true,
    ..Kind::NONE
};

fn row(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/metadata/creationTimestamp").into()]
}

/// For containers, what isn't given as a default follows from the bounds.
fn default(object: &mut Value) {
    let Some(spec) = field(object, "spec") else { return };
    for limit in each(spec, "limits").filter(|limit| text(limit, "/type") == "Container") {
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(values) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
            if let Some(target) = sub(limit, to) {
                for (name, value) in values {
                    fill(target, &name, value);
                }
            }
        }
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let limits = list(object, "/spec/limits");
    for (i, limit) in limits.iter().enumerate() {
        let path = format!("spec.limits[{i}]");
        let r#type = text(limit, "/type");
        if r#type.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        if limits.iter().take(i).any(|earlier| text(earlier, "/type") == r#type) {
            errors.push(FieldError::duplicate(format!("{path}.type"), &r#type.into()));
        }
        if r#type == "Pod" {
            for key in ["default", "defaultRequest"] {
                if entries(limit, &format!("/{key}")).next().is_some() {
                    errors.push(FieldError::forbidden(
                        format!("{path}.{key}"),
                        "may not be specified when `type` is 'Pod'",
                    ));
                }
            }
        }
    }
    errors
}
