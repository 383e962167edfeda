//! Who holds what, until when.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{not_negative, positive};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::text;

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("Holder", "Who holds it."), Column::AGE],
    row,
    validate,
    schema: schema_of::<Lease>,
    acted_on: true,
    create_on_update: true,
    unconditional_update: false,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/spec/holderIdentity").into(), age_of(object, now)]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    positive(&mut errors, "spec", spec, "leaseDurationSeconds");
    not_negative(&mut errors, "spec", spec, "leaseTransitions");
    errors
}
