//! The devices of a node.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{required, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::text;

pub static RESOURCE_SLICE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Node", "The node with the devices."),
        Column::text("Driver", "Who looks after them."),
        Column::text("Pool", "The pool that they belong to."),
        Column::AGE,
    ],
    row,
    validate,
    selectable: |object| {
        vec![
            ("spec.driver", text(object, "/spec/driver").to_owned()),
            ("spec.nodeName", text(object, "/spec/nodeName").to_owned()),
        ]
    },
    selectable_names: &["spec.driver", "spec.nodeName"],
    schema: schema_of::<ResourceSlice>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(object),
        text(object, "/spec/nodeName").into(),
        text(object, "/spec/driver").into(),
        text(object, "/spec/pool/name").into(),
        age_of(object, now),
    ]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "spec.driver", text(object, "/spec/driver"));
    required(&mut errors, "spec.pool.name", text(object, "/spec/pool/name"));
    if let Some(old) = old {
        unchanged(&mut errors, "spec.driver", object, old, "/spec/driver");
        unchanged(&mut errors, "spec.nodeName", object, old, "/spec/nodeName");
    }
    errors
}
