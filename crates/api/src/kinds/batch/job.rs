//! Pods that run to their end.

use k8s_openapi::api::batch::v1::Job;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("Job")],
    schema: schema_of::<Job>,
    has_generation: true,
    ..Kind::NONE
};
