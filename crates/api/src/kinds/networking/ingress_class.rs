//! Which controller serves an Ingress.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE};
use crate::kinds::check::{one_of, required, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{field, fill, some, text};

pub static INGRESS_CLASS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Controller", "Which controller serves the class."),
        Column::text("Parameters", "The object with the controller's settings."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    schema: schema_of::<IngressClass>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = match some(object, "/spec/parameters") {
        None => NONE.to_owned(),
        Some(parameters) => {
            let group = text(parameters, "/apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
        }
    };
    vec![cells::name(object), text(object, "/spec/controller").into(), parameters.into(), age_of(object, now)]
}

fn default(object: &mut Value) {
    if let Some(parameters) = field(object, "spec").and_then(|spec| field(spec, "parameters")) {
        fill(parameters, "scope", "Cluster");
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "spec.controller", text(object, "/spec/controller"));
    if let Some(parameters) = some(object, "/spec/parameters") {
        required(&mut errors, "spec.parameters.name", text(parameters, "/name"));
        required(&mut errors, "spec.parameters.kind", text(parameters, "/kind"));
        one_of(&mut errors, "spec.parameters.scope", text(parameters, "/scope"), &["Cluster", "Namespace"]);
    }
    if let Some(old) = old {
        unchanged(&mut errors, "spec.controller", object, old, "/spec/controller");
    }
    errors
}
