//! Jobs on a schedule.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use super::job::job_spec;
use crate::columns::{age, age_of};
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, or};
use crate::kinds::check::{not_negative, one_of};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{fill, flag, list, some, sub, text};

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("CronJob")],
    columns: COLUMNS,
    row,
    default,
    validate,
    schema: schema_of::<CronJob>,
    has_generation: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Schedule", "When it makes a job, as cron writes it."),
    Column::text("Timezone", "Where the schedule's clock hangs."),
    Column::boolean("Suspend", "Whether it makes none for now."),
    Column::number("Active", "How many of its jobs run."),
    Column::text("Last Schedule", "Time since it last made one."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/spec/jobTemplate/spec/template/spec/containers");
    let last = some(object, "/status/lastScheduleTime").map_or(NONE.to_owned(), |time| age(time.as_str(), now));
    vec![
        cells::name(object),
        text(object, "/spec/schedule").into(),
        or(text(object, "/spec/timeZone"), NONE),
        if flag(object, "/spec/suspend") { "True" } else { "False" }.into(),
        list(object, "/status/active").len().into(),
        last.into(),
        age_of(object, now),
        names,
        images,
        cells::selector(object, "/spec/jobTemplate/spec/selector"),
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    let Some(template) = sub(spec, "jobTemplate") else { return };
    fill(template, "metadata", json!({}));
    if let Some(job) = sub(template, "spec") {
        pod::default_template(job);
    }
}

/// Room for the suffix that each job's name gets.
const LONGEST_NAME: usize = 52;

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = text(object, "/metadata/name");
    if old.is_none() && name.len() > LONGEST_NAME {
        errors.push(FieldError::invalid("metadata.name", &name.into(), "must be no more than 52 characters"));
    }
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let schedule = text(spec, "/schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let message = format!("expected exactly 5 fields, found {}: [{schedule}]", schedule.split_whitespace().count());
        errors.push(FieldError::invalid("spec.schedule", &schedule.into(), &message));
    }
    not_negative(&mut errors, "spec", spec, "startingDeadlineSeconds");
    let policy = text(spec, "/concurrencyPolicy");
    one_of(&mut errors, "spec.concurrencyPolicy", policy, &["Allow", "Forbid", "Replace"]);
    let job = spec.pointer("/jobTemplate/spec").unwrap_or(&Value::Null);
    job_spec(&mut errors, "spec.jobTemplate.spec", job);
    if flag(job, "/manualSelector") {
        errors.push(FieldError::not_supported("spec.jobTemplate.spec.manualSelector", &true.into(), &["false"]));
    }
    not_negative(&mut errors, "spec", spec, "successfulJobsHistoryLimit");
    not_negative(&mut errors, "spec", spec, "failedJobsHistoryLimit");
    errors
}
