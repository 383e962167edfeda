//! HTTP from outside to Services.

use k8s_openapi::api::networking::v1::Ingress;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static INGRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("Ingress")],
    schema: schema_of::<Ingress>,
    has_generation: true,
    ..Kind::NONE
};
