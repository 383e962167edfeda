//! The ReplicaSet's forerunner.

use k8s_openapi::api::core::v1::ReplicationController;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("ReplicationController")],
    schema: schema_of::<ReplicationController>,
    has_generation: true,
    ..Kind::NONE
};
