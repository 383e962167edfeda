//! What may be done, everywhere.

use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<ClusterRole>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
