//! A range of Service addresses.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static SERVICE_CIDR: Kind = Kind {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("ServiceCIDR")],
    schema: schema_of::<ServiceCIDR>,
    ..Kind::NONE
};
