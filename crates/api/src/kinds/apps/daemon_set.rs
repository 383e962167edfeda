//! A pod on every node.

use k8s_openapi::api::apps::v1::DaemonSet;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("DaemonSet")],
    schema: schema_of::<DaemonSet>,
    has_generation: true,
    ..Kind::NONE
};
