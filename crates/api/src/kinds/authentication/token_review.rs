//! Whose token is this?

use k8s_openapi::api::authentication::v1::TokenReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static TOKEN_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    namespaced: false,
    verbs: verbs::CREATE,
    schema: schema_of::<TokenReview>,
    acted_on: true,
    ..Kind::NONE
};
