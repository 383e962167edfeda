//! A storage driver.

use k8s_openapi::api::storage::v1::CSIDriver;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static CSI_DRIVER: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<CSIDriver>,
    has_generation: true,
    ..Kind::NONE
};
