//! How much a class has left, and where.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    verbs: verbs::ALL,
    schema: schema_of::<CSIStorageCapacity>,
    ..Kind::NONE
};
