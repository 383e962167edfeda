//! May they, in this namespace?

use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    verbs: verbs::CREATE,
    schema: schema_of::<LocalSubjectAccessReview>,
    acted_on: true,
    ..Kind::NONE
};
