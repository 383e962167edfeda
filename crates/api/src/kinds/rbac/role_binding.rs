//! Who has a role in a namespace.

use k8s_openapi::api::rbac::v1::RoleBinding;

use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    verbs: verbs::ALL,
    schema: schema_of::<RoleBinding>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
