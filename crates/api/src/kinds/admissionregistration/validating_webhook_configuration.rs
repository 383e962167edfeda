//! Webhooks that refuse objects on their way in.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use super::webhooks;
use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: webhooks::COLUMNS,
    row: webhooks::row,
    default: webhooks::default,
    validate: webhooks::validate,
    schema: schema_of::<ValidatingWebhookConfiguration>,
    has_generation: true,
    ..Kind::NONE
};
