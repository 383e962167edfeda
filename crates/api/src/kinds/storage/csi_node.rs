//! The drivers on a node.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSINode;
use serde_json::Value;

use crate::columns::age_of;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::list;

pub static CSI_NODE: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::number("Drivers", "How many drivers the node has."), Column::AGE],
    row,
    schema: schema_of::<CSINode>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), list(object, "/spec/drivers").len().into(), age_of(object, now)]
}
