//! May I?

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    namespaced: false,
    verbs: verbs::CREATE,
    schema: schema_of::<SelfSubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};
