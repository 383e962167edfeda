//! A name and an address for a set of pods.

use k8s_openapi::api::core::v1::Service;

use crate::kind::{Kind, NameRule};
use crate::kinds::part::{schema_of, subresources, verbs};

pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::proxy("ServiceProxyOptions"), subresources::status("Service")],
    schema: schema_of::<Service>,
    names: NameRule::DnsLabel,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
