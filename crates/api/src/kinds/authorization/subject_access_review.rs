//! May they?

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use serde_json::Value;

use super::attributes;
use crate::field::{FieldError, FieldErrors};
use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{list, text};

pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    namespaced: false,
    verbs: verbs::CREATE,
    validate,
    schema: schema_of::<SubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};

/// The review in a namespace asks the same.
pub fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    attributes::validate(&mut errors, spec);
    if text(spec, "/user").is_empty() && list(spec, "/groups").is_empty() {
        errors.push(FieldError::invalid("spec.user", &"".into(), "at least one of user or group must be specified"));
    }
    errors
}
