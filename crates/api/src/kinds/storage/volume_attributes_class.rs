//! A sort of volume that may be changed to later.

use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<VolumeAttributesClass>,
    ..Kind::NONE
};
