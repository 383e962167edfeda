//! Who may talk to whom.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    verbs: verbs::ALL,
    schema: schema_of::<NetworkPolicy>,
    has_generation: true,
    ..Kind::NONE
};
