//! So many pods of one template.

use k8s_openapi::api::apps::v1::ReplicaSet;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("ReplicaSet")],
    schema: schema_of::<ReplicaSet>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};
