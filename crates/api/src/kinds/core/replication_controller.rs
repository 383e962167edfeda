//! The ReplicaSet's forerunner.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

use super::pod;
use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{labels, not_negative, one_of};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, entries, fill, some, sub, text};

pub static REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("ReplicationController")],
    columns: COLUMNS,
    row,
    default,
    validate,
    selectable: |object| vec![("status.replicas", count(object, "/status/replicas").to_string())],
    selectable_names: &["status.replicas"],
    new_status: || Some(json!({ "replicas": 0 })),
    schema: schema_of::<ReplicationController>,
    has_generation: true,
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
        cells::labels(object, "/spec/selector"),
    ]
}

/// Selector and labels are the template's where they aren't given.
fn default(object: &mut Value) {
    let template = object.pointer("/spec/template/metadata/labels").filter(|labels| labels.is_object()).cloned();
    if let (Some(labels), Some(metadata)) = (template.clone(), sub(object, "metadata")) {
        fill(metadata, "labels", labels);
    }
    let Some(spec) = sub(object, "spec") else { return };
    if let Some(labels) = template {
        fill(spec, "selector", labels);
    }
    fill(spec, "replicas", 1);
    if some(spec, "/template").is_some() {
        pod::default_template(spec);
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    not_negative(&mut errors, "spec", spec, "minReadySeconds");
    labels(&mut errors, "spec.selector", spec, "/selector");
    if entries(spec, "/selector").next().is_none() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    not_negative(&mut errors, "spec", spec, "replicas");
    let Some(template) = some(spec, "/template") else {
        errors.push(FieldError::required("spec.template", ""));
        return errors;
    };
    let held = template.pointer("/metadata/labels").unwrap_or(&Value::Null);
    if entries(spec, "/selector").any(|(key, value)| held.get(key) != Some(value)) {
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            held,
            "`selector` does not match template `labels`",
        ));
    }
    pod::template(&mut errors, "spec.template", template);
    let restart = text(template, "/spec/restartPolicy");
    one_of(&mut errors, "spec.template.spec.restartPolicy", restart, &["Always"]);
    errors
}
