//! A pod to be stamped out.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;

use super::pod;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, verbs};

pub static POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Containers", "Names of its containers."),
        Column::text("Images", "Images of its containers."),
        Column::text("Pod Labels", "Labels of its pods."),
    ],
    row,
    default: pod::default_template,
    validate,
    schema: schema_of::<PodTemplate>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, _now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/template/spec/containers");
    vec![cells::name(object), names, images, cells::labels(object, "/template/metadata/labels")]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    pod::template(&mut errors, "template", object.get("template").unwrap_or(&Value::Null));
    errors
}
