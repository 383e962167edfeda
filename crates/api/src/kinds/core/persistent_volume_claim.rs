//! A pod's wish for a volume.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::Value;

use super::volume::{ACCESS_MODES, access_modes};
use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, UNSET, or};
use crate::kinds::check::{label_selector, one_of_if_set, quantity};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{fill, list, some, sub, text, without};

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("PersistentVolumeClaim")],
    columns: COLUMNS,
    row,
    default,
    validate,
    schema: schema_of::<PersistentVolumeClaim>,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether it has its volume."),
    Column::text("Volume", "The volume it has."),
    Column::text("Capacity", "How much it holds."),
    Column::text("Access Modes", "How it may be mounted."),
    Column::text("StorageClass", "The class it asks for."),
    Column::text("VolumeAttributesClass", "The attributes it has."),
    Column::AGE,
    Column::text("VolumeMode", "Filesystem or Block.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(object, "/spec/volumeName").is_empty();
    let status = if some(object, "/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else {
        text(object, "/status/phase")
    };
    vec![
        cells::name(object),
        status.into(),
        text(object, "/spec/volumeName").into(),
        if bound { text(object, "/status/capacity/storage") } else { "" }.into(),
        if bound { access_modes(object, "/status/accessModes") } else { String::new() }.into(),
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/status/currentVolumeAttributesClassName"), UNSET),
        age_of(object, now),
        or(text(object, "/spec/volumeMode"), UNSET),
    ]
}

fn default(object: &mut Value) {
    if let Some(spec) = sub(object, "spec") {
        fill(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = sub(object, "status") {
        fill(status, "phase", "Pending");
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let modes = list(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    if let Some(selector) = some(spec, "/selector") {
        label_selector(&mut errors, "spec.selector", selector);
    }
    for mode in modes {
        one_of_if_set(&mut errors, "spec.accessModes", mode.as_str().unwrap_or_default(), ACCESS_MODES);
    }
    match some(spec, "/resources/requests/storage") {
        None => errors.push(FieldError::required("spec.resources[storage]", "")),
        Some(storage) => {
            if quantity(storage).is_some_and(|storage| storage.sign() <= 0) {
                errors.push(FieldError::invalid("spec.resources[storage]", storage, "must be greater than zero"));
            }
        }
    }
    one_of_if_set(&mut errors, "spec.volumeMode", text(spec, "/volumeMode"), &["Block", "Filesystem"]);
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        unchanged(&mut errors, spec, old);
    }
    errors
}

/// A bound claim may only grow.
fn unchanged(errors: &mut FieldErrors, spec: &Value, old: &Value) {
    // Binding gives a volume, and a class that was open.
    let mut open = vec!["resources", "volumeAttributesClassName"];
    for key in ["volumeName", "storageClassName"] {
        if some(old, &format!("/{key}")).is_none() {
            open.push(key);
        }
    }
    if without(spec, &open) != without(old, &open) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let storage = |spec: &Value| some(spec, "/resources/requests/storage").and_then(quantity);
    if storage(spec) < storage(old) {
        errors.push(FieldError::forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        ));
    }
}
