//! A pod tied to a node: asked, never stored.

use k8s_openapi::api::core::v1::Binding;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kind::Kind;
use crate::kinds::check::one_of_if_set;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::text;

pub static BINDING: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: verbs::CREATE,
    validate,
    schema: schema_of::<Binding>,
    acted_on: true,
    ..Kind::NONE
};

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    one_of_if_set(&mut errors, "target.kind", text(object, "/target/kind"), &["Node", "<empty>"]);
    if text(object, "/target/name").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    errors
}
