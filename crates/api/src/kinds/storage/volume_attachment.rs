//! A volume tied to a node.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{required, unchanged};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{flag, some, text};

pub static VOLUME_ATTACHMENT: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("VolumeAttachment")],
    columns: &[
        Column::NAME,
        Column::text("Attacher", "Who attaches it."),
        Column { format: "name", ..Column::text("PV", "The volume.") },
        Column::text("Node", "The node."),
        Column::boolean("Attached", "Whether it's attached."),
        Column::AGE,
    ],
    row,
    validate,
    new_status: || Some(json!({ "attached": false })),
    schema: schema_of::<VolumeAttachment>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(object),
        text(object, "/spec/attacher").into(),
        text(object, "/spec/source/persistentVolumeName").into(),
        text(object, "/spec/nodeName").into(),
        flag(object, "/status/attached").into(),
        age_of(object, now),
    ]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "spec.attacher", text(object, "/spec/attacher"));
    required(&mut errors, "spec.nodeName", text(object, "/spec/nodeName"));
    let sources = ["persistentVolumeName", "inlineVolumeSpec"];
    if !sources.iter().any(|key| some(object, &format!("/spec/source/{key}")).is_some()) {
        errors.push(FieldError::required(
            "spec.source",
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ));
    }
    if let Some(old) = old {
        unchanged(&mut errors, "spec", object, old, "/spec");
    }
    errors
}
