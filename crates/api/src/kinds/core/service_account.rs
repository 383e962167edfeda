//! A pod's identity.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::columns::age_of;
use crate::kind::{Column, Kind, Subresource};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::list;

pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    verbs: verbs::ALL,
    subresources: &[Subresource {
        name: "token",
        kind: "TokenRequest",
        group_version: Some(("authentication.k8s.io", "v1")),
        verbs: verbs::CREATE,
    }],
    columns: &[Column::NAME, Column::number("Secrets", "How many Secrets it names."), Column::AGE],
    row,
    schema: schema_of::<ServiceAccount>,
    acted_on: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), list(object, "/secrets").len().into(), age_of(object, now)]
}
