//! A pod's identity.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::kind::{Kind, Subresource};
use crate::kinds::part::{schema_of, verbs};

pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    verbs: verbs::ALL,
    subresources: &[Subresource {
        name: "token",
        kind: "TokenRequest",
        group_version: Some(("authentication.k8s.io", "v1")),
        verbs: verbs::CREATE,
    }],
    schema: schema_of::<ServiceAccount>,
    acted_on: true,
    ..Kind::NONE
};
