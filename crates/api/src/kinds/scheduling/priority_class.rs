//! A pod's rank by name.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<PriorityClass>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};
