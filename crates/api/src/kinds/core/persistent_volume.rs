//! A piece of storage.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("PersistentVolume")],
    schema: schema_of::<PersistentVolume>,
    ..Kind::NONE
};
