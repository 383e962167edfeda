//! A pod's wish for devices.

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static RESOURCE_CLAIM: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    verbs: verbs::ALL,
    subresources: &[subresources::status("ResourceClaim")],
    schema: schema_of::<ResourceClaim>,
    ..Kind::NONE
};
