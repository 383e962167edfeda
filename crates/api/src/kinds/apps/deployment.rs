//! Pods kept running and rolled over to new versions.

use k8s_openapi::api::apps::v1::Deployment;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("Deployment")],
    schema: schema_of::<Deployment>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};
