//! The devices of a node.

use k8s_openapi::api::resource::v1::ResourceSlice;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static RESOURCE_SLICE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<ResourceSlice>,
    has_generation: true,
    ..Kind::NONE
};
