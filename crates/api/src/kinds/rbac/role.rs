//! What may be done in a namespace.

use k8s_openapi::api::rbac::v1::Role;

use super::rules;
use crate::kind::{Column, Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "Role",
    plural: "roles",
    singular: "role",
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: rules::row,
    validate: rules::validate_role,
    schema: schema_of::<Role>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
