//! Addresses behind a Service, in the older form.

use k8s_openapi::api::core::v1::Endpoints;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    verbs: verbs::ALL,
    schema: schema_of::<Endpoints>,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
