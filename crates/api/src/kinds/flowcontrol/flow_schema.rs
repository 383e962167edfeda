//! Which requests are which.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, or};
use crate::kinds::check::{one_of, required};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, fill_zero, list, some, sub, text};

pub static FLOW_SCHEMA: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("FlowSchema")],
    columns: &[
        Column::NAME,
        Column::text("PriorityLevel", "The level that its requests go to."),
        Column::text("MatchingPrecedence", "Its turn: lower ones are asked first."),
        Column::text("DistinguisherMethod", "What tells its flows apart."),
        Column::AGE,
        Column::text("MissingPL", "Whether that level isn't there."),
    ],
    row,
    default,
    validate,
    schema: schema_of::<FlowSchema>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = list(object, "/status/conditions").iter().find(|held| text(held, "/type") == "Dangling");
    vec![
        cells::name(object),
        text(object, "/spec/priorityLevelConfiguration/name").into(),
        count(object, "/spec/matchingPrecedence").into(),
        or(text(object, "/spec/distinguisherMethod/type"), NONE),
        age_of(object, now),
        dangling.map_or("?", |held| text(held, "/status")).into(),
    ]
}

fn default(object: &mut Value) {
    if let Some(spec) = sub(object, "spec") {
        fill_zero(spec, "matchingPrecedence", 1000);
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let precedence = count(object, "/spec/matchingPrecedence");
    if precedence <= 0 {
        errors.push(FieldError::invalid("spec.matchingPrecedence", &precedence.into(), "must be a positive value"));
    }
    if precedence > 10000 {
        errors.push(FieldError::invalid(
            "spec.matchingPrecedence",
            &precedence.into(),
            "must not be greater than 10000",
        ));
    }
    if some(object, "/spec/distinguisherMethod").is_some() {
        let method = text(object, "/spec/distinguisherMethod/type");
        one_of(&mut errors, "spec.distinguisherMethod.type", method, &["ByNamespace", "ByUser"]);
    }
    let level = text(object, "/spec/priorityLevelConfiguration/name");
    if level.is_empty() {
        errors.push(FieldError::required("spec.priorityLevelConfiguration.name", "must reference a priority level"));
    }
    for (i, rule) in list(object, "/spec/rules").iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        if list(rule, "/subjects").is_empty() {
            errors.push(FieldError::required(format!("{path}.subjects"), "subjects must contain at least one value"));
        }
        for (n, subject) in list(rule, "/subjects").iter().enumerate() {
            required(&mut errors, &format!("{path}.subjects[{n}].kind"), text(subject, "/kind"));
        }
    }
    errors
}
