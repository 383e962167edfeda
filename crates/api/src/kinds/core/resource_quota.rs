//! What a namespace may use in all.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{NOT_NEGATIVE, invalid, quantity};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{entries, text};
use crate::names;

pub static RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("ResourceQuota")],
    columns: &[
        Column::NAME,
        Column::text("Request", "What is asked for, of what may be."),
        Column::text("Limit", "What is the most used, of what may be."),
        Column::AGE,
    ],
    row,
    validate,
    schema: schema_of::<ResourceQuota>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in entries(object, "/status/hard") {
        let used = object.pointer("/status/used").map_or("", |used| match used.get(name) {
            Some(used) => used.as_str().unwrap_or_default(),
            None => "0",
        });
        let shown = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
        if name.starts_with("limits") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![cells::name(object), requests.join(", ").into(), limits.join(", ").into(), age_of(object, now)]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (name, value) in entries(object, "/spec/hard") {
        let path = format!("spec.hard[{name}]");
        invalid(&mut errors, &path, name, names::qualified_name(name));
        if let Some(amount) = quantity(value)
            && amount.sign() < 0
        {
            errors.push(FieldError::invalid(path, &text(value, "").into(), NOT_NEGATIVE));
        }
    }
    errors
}
