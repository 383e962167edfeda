//! May they, in this namespace?

use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;
use serde_json::Value;

use super::subject_access_review;
use crate::field::{FieldError, FieldErrors};
use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{some, text};

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    verbs: verbs::CREATE,
    validate,
    schema: schema_of::<LocalSubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = subject_access_review::validate(object, old);
    let (here, there) = (text(object, "/metadata/namespace"), text(object, "/spec/resourceAttributes/namespace"));
    if some(object, "/spec/resourceAttributes").is_some() && here != there {
        errors.push(FieldError::invalid(
            "spec.resourceAttributes.namespace",
            &there.into(),
            "must match metadata.namespace",
        ));
    }
    if some(object, "/spec/nonResourceAttributes").is_some() {
        errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            &object["spec"]["nonResourceAttributes"],
            "disallowed on this kind of request",
        ));
    }
    errors
}
