//! A pod on every node.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{
    IntOrPercent, at_most_all, int_or_percent, label_selector, not_negative, selects_all, unchanged,
};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, fill, some, sub, text};

pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("DaemonSet")],
    columns: COLUMNS,
    row,
    default,
    validate,
    new_status: || {
        Some(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }))
    },
    schema: schema_of::<DaemonSet>,
    has_generation: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::number("Desired", "How many nodes should run its pod."),
    Column::number("Current", "How many nodes that should run its pod do."),
    Column::number("Ready", "On how many nodes the pod is ready."),
    Column::number("Up-to-date", "How many pods have the newest template."),
    Column::number("Available", "How many pods have been ready for long enough."),
    Column::text("Node Selector", "Which nodes run its pod."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/spec/template/spec/containers");
    vec![
        cells::name(object),
        count(object, "/status/desiredNumberScheduled").into(),
        count(object, "/status/currentNumberScheduled").into(),
        count(object, "/status/numberReady").into(),
        count(object, "/status/updatedNumberScheduled").into(),
        count(object, "/status/numberAvailable").into(),
        cells::labels(object, "/spec/template/spec/nodeSelector"),
        age_of(object, now),
        names,
        images,
        cells::selector(object, "/spec/selector"),
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = sub(spec, "updateStrategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = sub(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }
    pod::default_template(spec);
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    match some(spec, "/selector") {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            label_selector(&mut errors, "spec.selector", selector);
            if selects_all(selector) {
                errors.push(FieldError::invalid("spec.selector", selector, "empty selector is invalid for daemonset"));
            }
        }
    }
    pod::template_for_replicas(&mut errors, "spec", spec, "DaemonSet");
    not_negative(&mut errors, "spec", spec, "minReadySeconds");
    strategy(&mut errors, spec.get("updateStrategy").unwrap_or(&Value::Null));
    not_negative(&mut errors, "spec", spec, "revisionHistoryLimit");
    if let Some(old) = old {
        unchanged(&mut errors, "spec.selector", object, old, "/spec/selector");
    }
    errors
}

fn strategy(errors: &mut FieldErrors, strategy: &Value) {
    let path = "spec.updateStrategy";
    match (text(strategy, "/type"), some(strategy, "/rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(format!("{path}.rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            let path = format!("{path}.rollingUpdate");
            let unavailable = rolling.get("maxUnavailable").unwrap_or(&Value::Null);
            let surge = rolling.get("maxSurge").unwrap_or(&Value::Null);
            for (key, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                int_or_percent(errors, &format!("{path}.{key}"), value);
                at_most_all(errors, &format!("{path}.{key}"), value);
            }
            let some = |value| IntOrPercent::of(value).is_some_and(|amount| !amount.is_zero());
            if some(unavailable) && some(surge) {
                errors.push(FieldError::invalid(
                    format!("{path}.maxSurge"),
                    surge,
                    "may not be set when maxUnavailable is non-zero",
                ));
            }
            if !some(unavailable) && !some(surge) {
                errors.push(FieldError::required(format!("{path}.maxUnavailable"), "cannot be 0 when maxSurge is 0"));
            }
        }
        (other, _) => errors.push(FieldError::not_supported(path, &other.into(), &["RollingUpdate", "OnDelete"])),
    }
}
