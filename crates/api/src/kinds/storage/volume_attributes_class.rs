//! A sort of volume that may be changed to later.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{required, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{entries, text};

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("DriverName", "Whose volumes it's for."), Column::AGE],
    row,
    validate,
    schema: schema_of::<VolumeAttributesClass>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/driverName").into(), age_of(object, now)]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "driverName", text(object, "/driverName"));
    if entries(object, "/parameters").next().is_none() {
        errors.push(FieldError::required("parameters", "must contain at least one key/value pair"));
    }
    if let Some(old) = old {
        unchanged(&mut errors, "driverName", object, old, "/driverName");
        unchanged(&mut errors, "parameters", object, old, "/parameters");
    }
    errors
}
