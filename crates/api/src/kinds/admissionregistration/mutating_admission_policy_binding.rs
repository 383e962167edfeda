//! Where such a policy applies.

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<MutatingAdmissionPolicyBinding>,
    has_generation: true,
    ..Kind::NONE
};
