//! Which requests are which.

use k8s_openapi::api::flowcontrol::v1::FlowSchema;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static FLOW_SCHEMA: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("FlowSchema")],
    schema: schema_of::<FlowSchema>,
    has_generation: true,
    ..Kind::NONE
};
