//! A pod tied to a node: asked, never stored.

use k8s_openapi::api::core::v1::Binding;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static BINDING: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: verbs::CREATE,
    schema: schema_of::<Binding>,
    acted_on: true,
    ..Kind::NONE
};
