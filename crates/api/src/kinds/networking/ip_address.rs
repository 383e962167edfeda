//! A Service address that is taken.

use k8s_openapi::api::networking::v1::IPAddress;

use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, verbs};

pub static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<IPAddress>,
    names: NameRule::PathSegment,
    ..Kind::NONE
};
