//! Which runtime runs a pod.

use jiff::Timestamp;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{required_name, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::text;
use crate::names;

pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("Handler", "The runtime's name on the node."), Column::AGE],
    row,
    validate,
    schema: schema_of::<RuntimeClass>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/handler").into(), age_of(object, now)]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required_name(&mut errors, "handler", text(object, "/handler"), names::dns1123_label);
    if let Some(old) = old {
        unchanged(&mut errors, "handler", object, old, "/handler");
    }
    errors
}
