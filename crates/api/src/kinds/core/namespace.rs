//! A room for names.

use k8s_openapi::api::core::v1::Namespace;

use crate::kind::{Kind, NameRule, Subresource};
use crate::kinds::part::{schema_of, subresources, verbs};

pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: verbs::NAMESPACE,
    subresources: &[
        Subresource { name: "finalize", kind: "Namespace", group_version: None, verbs: &["update"] },
        subresources::status("Namespace"),
    ],
    schema: schema_of::<Namespace>,
    names: NameRule::DnsLabel,
    acted_on: true,
    ..Kind::NONE
};
