//! Pods with names and volumes of their own.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind, NameRule};
use crate::kinds::cells;
use crate::kinds::check::{label_selector, not_negative, one_of, selects_all};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, drop_field, each, fill, some, sub, text};

pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("StatefulSet")],
    columns: COLUMNS,
    row,
    default,
    validate,
    new_status: || Some(json!({ "replicas": 0, "availableReplicas": 0 })),
    schema: schema_of::<StatefulSet>,
    names: NameRule::DnsLabel,
    has_generation: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "How many pods are ready, of how many that are wanted."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/spec/template/spec/containers");
    vec![
        cells::name(object),
        format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas")).into(),
        age_of(object, now),
        names,
        images,
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "podManagementPolicy", "OrderedReady");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = sub(spec, "updateStrategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = sub(strategy, "rollingUpdate")
        {
            fill(rolling, "partition", 0);
        }
    }
    if let Some(retention) = sub(spec, "persistentVolumeClaimRetentionPolicy") {
        fill(retention, "whenDeleted", "Retain");
        fill(retention, "whenScaled", "Retain");
    }
    for claim in each(spec, "volumeClaimTemplates") {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = sub(claim, "spec") {
            fill(spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = sub(claim, "status") {
            fill(status, "phase", "Pending");
        }
    }
    pod::default_template(spec);
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let management = text(spec, "/podManagementPolicy");
    if !matches!(management, "OrderedReady" | "Parallel") {
        errors.push(FieldError::invalid(
            "spec.podManagementPolicy",
            &management.into(),
            "must be 'OrderedReady' or 'Parallel'",
        ));
    }
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    if !matches!(text(strategy, "/type"), "OnDelete" | "RollingUpdate") {
        errors.push(FieldError::invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"));
    }
    if let Some(rolling) = some(strategy, "/rollingUpdate") {
        if text(strategy, "/type") == "OnDelete" {
            errors.push(FieldError::invalid(
                "spec.updateStrategy.rollingUpdate",
                rolling,
                "only allowed for updateStrategy 'RollingUpdate'",
            ));
        }
        not_negative(&mut errors, "spec.updateStrategy.rollingUpdate", rolling, "partition");
    }
    for key in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{key}");
        let policy = text(spec, &format!("/persistentVolumeClaimRetentionPolicy/{key}"));
        one_of(&mut errors, &path, policy, &["Delete", "Retain"]);
    }
    not_negative(&mut errors, "spec", spec, "replicas");
    not_negative(&mut errors, "spec", spec, "minReadySeconds");
    not_negative(&mut errors, "spec", spec, "revisionHistoryLimit");
    match some(spec, "/selector") {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            label_selector(&mut errors, "spec.selector", selector);
            if selects_all(selector) {
                errors.push(FieldError::invalid(
                    "spec.selector",
                    selector,
                    "empty selector is invalid for statefulset",
                ));
            }
        }
    }
    pod::template_for_replicas(&mut errors, "spec", spec, "StatefulSet");
    if let Some(old) = old {
        only_these_change(&mut errors, object, old);
    }
    errors
}

/// Replicas, template, strategy and a few numbers may change; names and volumes of pods hang on the rest.
fn only_these_change(errors: &mut FieldErrors, object: &Value, old: &Value) {
    let mutable = [
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    ];
    let rest = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for key in mutable {
            drop_field(&mut spec, key);
        }
        spec
    };
    if rest(object) != rest(old) {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}
