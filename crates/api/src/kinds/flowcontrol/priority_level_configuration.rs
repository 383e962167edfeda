//! How many requests of a sort at once.

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("PriorityLevelConfiguration")],
    schema: schema_of::<PriorityLevelConfiguration>,
    has_generation: true,
    ..Kind::NONE
};
