//! The drivers on a node.

use k8s_openapi::api::storage::v1::CSINode;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static CSI_NODE: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<CSINode>,
    ..Kind::NONE
};
