//! Where such a policy applies.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<ValidatingAdmissionPolicyBinding>,
    has_generation: true,
    ..Kind::NONE
};
