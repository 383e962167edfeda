//! Jobs on a schedule.

use k8s_openapi::api::batch::v1::CronJob;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("CronJob")],
    schema: schema_of::<CronJob>,
    has_generation: true,
    ..Kind::NONE
};
