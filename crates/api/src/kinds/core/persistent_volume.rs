//! A piece of storage.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::Value;

use super::pod::placement::node_selector;
use super::volume::{ACCESS_MODES, access_modes};
use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, UNSET, or};
use crate::kinds::check::{one_of_if_set, quantity};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{fill, list, some, sub, text};

pub static PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("PersistentVolume")],
    columns: COLUMNS,
    row,
    default,
    validate,
    schema: schema_of::<PersistentVolume>,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Capacity", "How much it holds."),
    Column::text("Access Modes", "How it may be mounted."),
    Column::text("Reclaim Policy", "What becomes of it when its claim goes."),
    Column::text("Status", "Whether a claim has it."),
    Column::text("Claim", "The claim that has it."),
    Column::text("StorageClass", "Its class."),
    Column::text("VolumeAttributesClass", "Its attributes."),
    Column::text("Reason", "Why it's as it is."),
    Column::AGE,
    Column::text("VolumeMode", "Filesystem or Block.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match text(object, "/spec/claimRef/name") {
        "" => String::new(),
        name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
    };
    let status = if some(object, "/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else {
        text(object, "/status/phase")
    };
    vec![
        cells::name(object),
        text(object, "/spec/capacity/storage").into(),
        access_modes(object, "/spec/accessModes").into(),
        text(object, "/spec/persistentVolumeReclaimPolicy").into(),
        status.into(),
        claim.into(),
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/spec/volumeAttributesClassName"), UNSET),
        text(object, "/status/reason").into(),
        age_of(object, now),
        or(text(object, "/spec/volumeMode"), UNSET),
    ]
}

fn default(object: &mut Value) {
    if let Some(spec) = sub(object, "spec") {
        fill(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
        if let Some(path) = crate::kinds::walk::field(spec, "hostPath") {
            fill(path, "type", "");
        }
    }
    if let Some(status) = sub(object, "status") {
        fill(status, "phase", "Pending");
    }
}

/// What a PersistentVolume may be made of.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let modes = list(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    for mode in modes {
        one_of_if_set(&mut errors, "spec.accessModes", mode.as_str().unwrap_or_default(), ACCESS_MODES);
    }
    match some(spec, "/capacity/storage") {
        None => {
            if some(spec, "/capacity").is_none() {
                errors.push(FieldError::required("spec.capacity", ""));
            }
            errors.push(FieldError::not_supported("spec.capacity", &spec["capacity"], &["storage"]));
        }
        Some(storage) if quantity(storage).is_some_and(|storage| storage.sign() <= 0) => {
            errors.push(FieldError::invalid("spec.capacity[storage]", storage, "must be greater than zero"));
        }
        Some(_) => {}
    }
    let policy = text(spec, "/persistentVolumeReclaimPolicy");
    one_of_if_set(&mut errors, "spec.persistentVolumeReclaimPolicy", policy, &["Delete", "Recycle", "Retain"]);
    if let Some(selector) = some(spec, "/nodeAffinity/required") {
        node_selector(&mut errors, "spec.nodeAffinity.required", selector);
    }
    let sources = SOURCES.iter().filter(|key| some(spec, &format!("/{key}")).is_some());
    for (i, key) in sources.clone().enumerate() {
        if i > 0 {
            errors.push(FieldError::forbidden(format!("spec.{key}"), "may not specify more than 1 volume type"));
        }
    }
    if sources.count() == 0 {
        errors.push(FieldError::required("spec", "must specify a volume type"));
    }
    if some(spec, "/local").is_some() && some(spec, "/nodeAffinity").is_none() {
        errors.push(FieldError::required("spec.nodeAffinity", "Local volume requires node affinity"));
    }
    one_of_if_set(&mut errors, "spec.volumeMode", text(spec, "/volumeMode"), &["Block", "Filesystem"]);
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        let changed = |key: &&&str| spec.get(**key) != old.get(**key);
        if SOURCES.iter().any(|key| changed(&key)) {
            errors.push(FieldError::forbidden(
                "spec.persistentvolumesource",
                "spec.persistentvolumesource is immutable after creation",
            ));
        }
    }
    errors
}
