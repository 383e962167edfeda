//! A Service address that is taken.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind, NameRule};
use crate::kinds::cells;
use crate::kinds::check::{invalid, required, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{some, text};
use crate::names;

pub static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("ParentRef", "What has the address.")],
    row,
    validate,
    selectable: |object| vec![("spec.parentRef.resource", text(object, "/spec/parentRef/resource").to_owned())],
    selectable_names: &["spec.parentRef.resource"],
    schema: schema_of::<IPAddress>,
    names: NameRule::PathSegment,
    ..Kind::NONE
};

fn row(object: &Value, _now: Timestamp) -> Vec<Value> {
    let parent = |key: &str| text(object, &format!("/spec/parentRef/{key}"));
    let group = if parent("group").is_empty() { String::new() } else { format!(".{}", parent("group")) };
    let namespace = if parent("namespace").is_empty() { String::new() } else { format!("{}/", parent("namespace")) };
    let shown = format!("{}{group}/{namespace}{}", parent("resource"), parent("name"));
    vec![cells::name(object), shown.into()]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = text(object, "/metadata/name");
    invalid(&mut errors, "metadata.name", name, names::ip(name));
    match some(object, "/spec/parentRef") {
        None => errors.push(FieldError::required("spec.parentRef", "")),
        Some(parent) => {
            required(&mut errors, "spec.parentRef.resource", text(parent, "/resource"));
            required(&mut errors, "spec.parentRef.name", text(parent, "/name"));
        }
    }
    if let Some(old) = old {
        unchanged(&mut errors, "spec.parentRef", object, old, "/spec/parentRef");
    }
    errors
}
