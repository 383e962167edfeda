//! A pod's wish for devices.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::Value;

use super::requests;
use crate::columns::age_of;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::unchanged;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{field, list, some};

pub static RESOURCE_CLAIM: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    verbs: verbs::ALL,
    subresources: &[subresources::status("ResourceClaim")],
    columns: &[Column::NAME, Column::text("State", "Whether it has its devices, and who uses them."), Column::AGE],
    row,
    default,
    validate,
    schema: schema_of::<ResourceClaim>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut states = Vec::new();
    if some(object, "/metadata/deletionTimestamp").is_some() {
        states.push("deleted");
    }
    if some(object, "/status/allocation").is_none() {
        states.push("pending");
    } else {
        states.push("allocated");
        if !list(object, "/status/reservedFor").is_empty() {
            states.push("reserved");
        }
    }
    vec![cells::name(object), states.join(",").into(), age_of(object, now)]
}

fn default(object: &mut Value) {
    if let Some(spec) = field(object, "spec") {
        requests::default(spec);
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    requests::validate(&mut errors, "spec", object.get("spec").unwrap_or(&Value::Null));
    if let Some(old) = old {
        unchanged(&mut errors, "spec", object, old, "/spec");
    }
    errors
}
