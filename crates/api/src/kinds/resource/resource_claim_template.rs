//! Claims made for each pod.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    verbs: verbs::ALL,
    schema: schema_of::<ResourceClaimTemplate>,
    ..Kind::NONE
};
