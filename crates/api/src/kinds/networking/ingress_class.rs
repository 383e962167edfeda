//! Which controller serves an Ingress.

use k8s_openapi::api::networking::v1::IngressClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static INGRESS_CLASS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<IngressClass>,
    has_generation: true,
    ..Kind::NONE
};
