//! Pods that run to their end.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::columns::{age_of, human_duration};
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{label_selector, not_negative, one_of, one_of_if_set};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, each, fill, fill_zero, flag, int, list, some, sub, text};

pub static JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("Job")],
    columns: COLUMNS,
    row,
    default,
    validate,
    prepare,
    selectable: |object| vec![("status.successful", count(object, "/status/succeeded").to_string())],
    selectable_names: &["status.successful"],
    schema: schema_of::<Job>,
    has_generation: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Where the job stands."),
    Column::text("Completions", "How many pods ended well, of how many that should."),
    Column::text("Duration", "How long it took, or has taken so far."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = count(object, "/status/succeeded");
    let completions = match (int(object, "/spec/completions"), count(object, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let [names, images] = cells::containers(object, "/spec/template/spec/containers");
    vec![
        cells::name(object),
        status(object).into(),
        completions.into(),
        duration(object, now).into(),
        age_of(object, now),
        names,
        images,
        cells::selector(object, "/spec/selector"),
    ]
}

fn status(object: &Value) -> &'static str {
    let is = |r#type: &str| {
        let mut conditions = list(object, "/status/conditions").iter();
        conditions.any(|condition| text(condition, "/type") == r#type && text(condition, "/status") == "True")
    };
    let going = some(object, "/metadata/deletionTimestamp").is_some();
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if going => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn duration(object: &Value, now: Timestamp) -> String {
    let time = |pointer: &str| text(object, pointer).parse::<Timestamp>().ok();
    let Some(start) = time("/status/startTime") else { return String::new() };
    let end = time("/status/completionTime").unwrap_or(now);
    human_duration(Duration::from_secs(u64::try_from(end.as_second() - start.as_second()).unwrap_or_default()))
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    let (completions, parallelism) = (some(spec, "/completions").is_some(), some(spec, "/parallelism").is_some());
    if !completions && !parallelism {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    // With a limit an index there is no limit in all.
    let limit = if some(spec, "/backoffLimitPerIndex").is_some() { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replaced = if some(spec, "/podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replaced);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in each(policy, "rules") {
            for pattern in each(rule, "onPodConditions") {
                fill(pattern, "status", "True");
            }
        }
    }
    pod::default_template(spec);
}

/// The labels by which a job knows its pods, unless the user takes that on.
fn prepare(object: &mut Value, old: Option<&Value>) {
    if old.is_some() {
        return;
    }
    let (uid, name) = (text(object, "/metadata/uid").to_owned(), text(object, "/metadata/name").to_owned());
    let Some(spec) = sub(object, "spec") else { return };
    if flag(spec, "/manualSelector") || uid.is_empty() {
        return;
    }
    let labels = sub(spec, "template").and_then(|held| sub(held, "metadata")).and_then(|held| sub(held, "labels"));
    if let Some(labels) = labels {
        for (key, value) in [
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            if !value.is_empty() {
                fill(labels, key, value.as_str());
            }
        }
    }
    let labels = spec.pointer("/template/metadata/labels").cloned();
    if some(spec, "/selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    }
    // A job without labels has its pods'.
    if let (Some(labels), Some(metadata)) = (labels, sub(object, "metadata")) {
        fill_zero(metadata, "labels", labels);
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    job_spec(&mut errors, "spec", spec);
    match some(spec, "/selector") {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => label_selector(&mut errors, "spec.selector", selector),
    }
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        // A suspended job that never ran may still change where and how its pods would.
        let open = flag(old, "/suspend") && some(object, "/status/startTime").is_none();
        for key in ["completions", "selector", "template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"]
        {
            let pinned = match key {
                "template" => !open,
                "completions" => text(old, "/completionMode") != "Indexed",
                _ => true,
            };
            if pinned && spec.get(key) != old.get(key) {
                errors.push(FieldError::invalid(
                    format!("spec.{key}"),
                    spec.get(key).unwrap_or(&Value::Null),
                    crate::kinds::check::IMMUTABLE,
                ));
            }
        }
    }
    errors
}

/// What holds for a job and for a CronJob's template of one (`validateJobSpec`).
pub fn job_spec(errors: &mut FieldErrors, path: &str, spec: &Value) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(errors, path, spec, key);
    }
    let mode = text(spec, "/completionMode");
    one_of_if_set(errors, &format!("{path}.completionMode"), mode, &["Indexed", "NonIndexed"]);
    if mode == "Indexed" && some(spec, "/completions").is_none() {
        errors.push(FieldError::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
    let replaced = text(spec, "/podReplacementPolicy");
    one_of_if_set(errors, &format!("{path}.podReplacementPolicy"), replaced, &["Failed", "TerminatingOrFailed"]);
    let template = spec.get("template").unwrap_or(&Value::Null);
    pod::template(errors, &format!("{path}.template"), template);
    let restart = text(template, "/spec/restartPolicy");
    let at = format!("{path}.template.spec.restartPolicy");
    if restart == "Always" || restart.is_empty() {
        errors.push(FieldError::required(at, "valid values: \"OnFailure\", \"Never\""));
    } else {
        one_of(errors, &at, restart, &["OnFailure", "Never"]);
    }
}
