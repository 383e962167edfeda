//! A machine that runs pods.

use k8s_openapi::api::core::v1::Node;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::proxy("NodeProxyOptions"), subresources::status("Node")],
    schema: schema_of::<Node>,
    acted_on: true,
    ..Kind::NONE
};
