//! A sort of storage that claims may name.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{one_of, required};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{fill, flag, text};

pub static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text("ReclaimPolicy", "What becomes of a volume when its claim goes."),
        Column::text("VolumeBindingMode", "When a claim gets its volume."),
        Column::text("AllowVolumeExpansion", "Whether its volumes may grow."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    schema: schema_of::<StorageClass>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let default = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let annotations = object.pointer("/metadata/annotations").unwrap_or(&Value::Null);
    let name = text(object, "/metadata/name");
    let shown = if default.iter().any(|key| annotations.get(key).is_some_and(|value| value == "true")) {
        Value::from(format!("{name} (default)"))
    } else {
        cells::name(object)
    };
    vec![
        shown,
        text(object, "/provisioner").into(),
        text(object, "/reclaimPolicy").into(),
        text(object, "/volumeBindingMode").into(),
        flag(object, "/allowVolumeExpansion").into(),
        age_of(object, now),
    ]
}

fn default(object: &mut Value) {
    fill(object, "reclaimPolicy", "Delete");
    fill(object, "volumeBindingMode", "Immediate");
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "provisioner", text(object, "/provisioner"));
    one_of(&mut errors, "reclaimPolicy", text(object, "/reclaimPolicy"), &["Delete", "Retain"]);
    let mode = text(object, "/volumeBindingMode");
    one_of(&mut errors, "volumeBindingMode", mode, &["Immediate", "WaitForFirstConsumer"]);
    if let Some(old) = old {
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            if object.get(key) != old.get(key) {
                errors.push(FieldError::forbidden(key, &format!("updates to {key} are forbidden.")));
            }
        }
    }
    errors
}
