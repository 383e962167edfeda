//! A sort of storage that claims may name.

use k8s_openapi::api::storage::v1::StorageClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<StorageClass>,
    ..Kind::NONE
};
