//! A pod to be stamped out.

use k8s_openapi::api::core::v1::PodTemplate;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    verbs: verbs::ALL,
    schema: schema_of::<PodTemplate>,
    has_generation: true,
    ..Kind::NONE
};
