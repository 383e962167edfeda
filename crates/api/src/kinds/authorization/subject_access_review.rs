//! May they?

use k8s_openapi::api::authorization::v1::SubjectAccessReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    namespaced: false,
    verbs: verbs::CREATE,
    schema: schema_of::<SubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};
