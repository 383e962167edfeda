//! Where such a policy applies.

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use super::policies;
use crate::kind::{Column, Kind};
use crate::kinds::part::{schema_of, verbs};

pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("PolicyName", "The policy that it applies."),
        Column::text("ParamRef", "The object with the policy's settings."),
        Column::AGE,
    ],
    row: policies::binding_row,
    default: policies::default_binding,
    validate: policies::validate_binding,
    schema: schema_of::<MutatingAdmissionPolicyBinding>,
    has_generation: true,
    ..Kind::NONE
};
