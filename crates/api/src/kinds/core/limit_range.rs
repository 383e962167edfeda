//! Bounds on what a namespace's pods may ask for.

use k8s_openapi::api::core::v1::LimitRange;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    verbs: verbs::ALL,
    schema: schema_of::<LimitRange>,
    create_on_update: true,
    ..Kind::NONE
};
