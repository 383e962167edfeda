//! Who am I?

use k8s_openapi::api::authentication::v1::SelfSubjectReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    namespaced: false,
    verbs: verbs::CREATE,
    schema: schema_of::<SelfSubjectReview>,
    acted_on: true,
    ..Kind::NONE
};
