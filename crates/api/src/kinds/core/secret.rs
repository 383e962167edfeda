//! Settings that stay secret.

use k8s_openapi::api::core::v1::Secret;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    verbs: verbs::ALL,
    schema: schema_of::<Secret>,
    acted_on: true,
    ..Kind::NONE
};
