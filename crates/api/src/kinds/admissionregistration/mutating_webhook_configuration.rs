//! Webhooks that change objects on their way in.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;

use super::webhooks;
use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: webhooks::COLUMNS,
    row: webhooks::row,
    default: webhooks::default_mutating,
    validate: webhooks::validate,
    schema: schema_of::<MutatingWebhookConfiguration>,
    has_generation: true,
    ..Kind::NONE
};
