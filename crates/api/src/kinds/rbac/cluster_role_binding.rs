//! Who has a role everywhere.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use super::subjects;
use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    verbs: verbs::ALL,
    columns: subjects::COLUMNS,
    row: subjects::row,
    default: subjects::default,
    validate: subjects::validate_cluster_role_binding,
    schema: schema_of::<ClusterRoleBinding>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
