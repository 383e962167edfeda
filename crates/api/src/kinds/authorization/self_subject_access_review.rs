//! May I?

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use serde_json::Value;

use super::attributes;
use crate::field::FieldErrors;
use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    namespaced: false,
    verbs: verbs::CREATE,
    validate,
    schema: schema_of::<SelfSubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    attributes::validate(&mut errors, object.get("spec").unwrap_or(&Value::Null));
    errors
}
