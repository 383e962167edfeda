//! How many pods may be away at once.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{at_most_all, int_or_percent, label_selector, one_of_if_set};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, some, text};

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("PodDisruptionBudget")],
    columns: &[
        Column::NAME,
        Column::text("Min Available", "How many pods have to stay."),
        Column::text("Max Unavailable", "How many pods may be away."),
        Column::number("Allowed Disruptions", "How many pods may go now."),
        Column::AGE,
    ],
    row,
    validate,
    new_status: || {
        Some(json!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        }))
    },
    schema: schema_of::<PodDisruptionBudget>,
    has_generation: true,
    unconditional_update: false,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let limit = |key: &str| match some(object, &format!("/spec/{key}")) {
        None => Value::from("N/A"),
        Some(Value::String(percent)) => percent.as_str().into(),
        Some(number) => number.to_string().into(),
    };
    vec![
        cells::name(object),
        limit("minAvailable"),
        limit("maxUnavailable"),
        count(object, "/status/disruptionsAllowed").into(),
        age_of(object, now),
    ]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if some(spec, "/minAvailable").is_some() && some(spec, "/maxUnavailable").is_some() {
        errors.push(FieldError::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = some(spec, &format!("/{key}")) {
            int_or_percent(&mut errors, &format!("spec.{key}"), value);
            at_most_all(&mut errors, &format!("spec.{key}"), value);
        }
    }
    if let Some(selector) = some(spec, "/selector") {
        label_selector(&mut errors, "spec.selector", selector);
    }
    let policy = text(spec, "/unhealthyPodEvictionPolicy");
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of_if_set(&mut errors, "spec.unhealthyPodEvictionPolicy", policy, &policies);
    errors
}
