//! A group and version, and who serves it.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("APIService")],
    schema: schema_of::<APIService>,
    unconditional_update: false,
    ..Kind::NONE
};
