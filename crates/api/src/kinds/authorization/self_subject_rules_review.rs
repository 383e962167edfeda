//! What may I?

use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    namespaced: false,
    verbs: verbs::CREATE,
    schema: schema_of::<SelfSubjectRulesReview>,
    acted_on: true,
    ..Kind::NONE
};
