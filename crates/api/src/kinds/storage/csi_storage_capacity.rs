//! How much a class has left, and where.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::Value;

use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{required, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::text;

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: |object, _| vec![cells::name(object), text(object, "/metadata/creationTimestamp").into()],
    validate,
    schema: schema_of::<CSIStorageCapacity>,
    ..Kind::NONE
};

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "storageClassName", text(object, "/storageClassName"));
    if let Some(old) = old {
        unchanged(&mut errors, "storageClassName", object, old, "/storageClassName");
        unchanged(&mut errors, "nodeTopology", object, old, "/nodeTopology");
    }
    errors
}
