//! Addresses behind a Service.

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    verbs: verbs::ALL,
    schema: schema_of::<EndpointSlice>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};
