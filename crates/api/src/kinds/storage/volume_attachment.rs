//! A volume tied to a node.

use k8s_openapi::api::storage::v1::VolumeAttachment;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static VOLUME_ATTACHMENT: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("VolumeAttachment")],
    schema: schema_of::<VolumeAttachment>,
    ..Kind::NONE
};
