//! So many pods of one template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{label_selector, not_negative, selects_all, unchanged};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, fill, some, sub};

pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("ReplicaSet")],
    columns: COLUMNS,
    row,
    default,
    validate,
    selectable,
    selectable_names: &["status.replicas"],
    new_status: || Some(json!({ "replicas": 0 })),
    schema: schema_of::<ReplicaSet>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::number("Desired", "How many pods are wanted."),
    Column::number("Current", "How many pods there are."),
    Column::number("Ready", "How many of them are ready."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/spec/template/spec/containers");
    vec![
        cells::name(object),
        count(object, "/spec/replicas").into(),
        count(object, "/status/replicas").into(),
        count(object, "/status/readyReplicas").into(),
        age_of(object, now),
        names,
        images,
        cells::selector(object, "/spec/selector"),
    ]
}

fn selectable(object: &Value) -> Vec<(&'static str, String)> {
    vec![("status.replicas", count(object, "/status/replicas").to_string())]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "replicas", 1);
    pod::default_template(spec);
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    not_negative(&mut errors, "spec", spec, "replicas");
    not_negative(&mut errors, "spec", spec, "minReadySeconds");
    match some(spec, "/selector") {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            label_selector(&mut errors, "spec.selector", selector);
            if selects_all(selector) {
                errors.push(FieldError::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
            }
        }
    }
    pod::template_for_replicas(&mut errors, "spec", spec, "ReplicaSet");
    if let Some(old) = old {
        unchanged(&mut errors, "spec.selector", object, old, "/spec/selector");
    }
    errors
}
