//! Who has a role in a namespace.

use k8s_openapi::api::rbac::v1::RoleBinding;

use super::subjects;
use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    verbs: verbs::ALL,
    columns: subjects::COLUMNS,
    row: subjects::row,
    default: subjects::default,
    validate: subjects::validate_role_binding,
    schema: schema_of::<RoleBinding>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
