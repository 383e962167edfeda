//! A kind that a user defines.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("CustomResourceDefinition")],
    schema: schema_of::<CustomResourceDefinition>,
    has_generation: true,
    unconditional_update: false,
    ..Kind::NONE
};
