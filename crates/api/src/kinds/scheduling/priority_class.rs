//! A pod's rank by name.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::one_of;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{count, fill, flag, text};

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::number("Value", "The rank: greater goes first."),
        Column::boolean("Global-Default", "Whether pods without a class get this one."),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods may push out others."),
    ],
    row,
    default,
    validate,
    schema: schema_of::<PriorityClass>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};

/// The greatest rank that users may give; above it stand the system's own.
const GREATEST: i64 = 1_000_000_000;

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(object),
        count(object, "/value").into(),
        flag(object, "/globalDefault").into(),
        age_of(object, now),
        text(object, "/preemptionPolicy").into(),
    ]
}

fn default(object: &mut Value) {
    fill(object, "preemptionPolicy", "PreemptLowerPriority");
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (name, value) = (text(object, "/metadata/name"), count(object, "/value"));
    if name.starts_with("system-") {
        let known = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
        if !known.contains(&(name, value)) {
            errors.push(FieldError::forbidden(
                "metadata.name",
                "priority class names with 'system-' prefix are reserved for system use only. error: the priority class is not known",
            ));
        }
    } else if value > GREATEST {
        errors.push(FieldError::forbidden("value", "maximum allowed value of a user defined priority is 1000000000"));
    }
    let policy = text(object, "/preemptionPolicy");
    one_of(&mut errors, "preemptionPolicy", policy, &["Never", "PreemptLowerPriority"]);
    if let Some(old) = old {
        for key in ["value", "preemptionPolicy"] {
            if object.get(key) != old.get(key) {
                errors.push(FieldError::forbidden(key, "may not be changed in an update."));
            }
        }
    }
    errors
}
