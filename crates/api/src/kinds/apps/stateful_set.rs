//! Pods with names and volumes of their own.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("StatefulSet")],
    schema: schema_of::<StatefulSet>,
    has_generation: true,
    ..Kind::NONE
};
