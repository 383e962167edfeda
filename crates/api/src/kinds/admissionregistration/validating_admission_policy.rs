//! Rules about objects on their way in, as expressions.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;

use super::policies;
use crate::kind::{Column, Kind};
use crate::kinds::part::{schema_of, subresources, verbs};

pub static VALIDATING_ADMISSION_POLICY: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("ValidatingAdmissionPolicy")],
    columns: &[
        Column::NAME,
        Column::number("Validations", "How many expressions it has."),
        Column::text("ParamKind", "Kind of the objects with its settings."),
        Column::AGE,
    ],
    row: policies::row,
    default: policies::default,
    validate: policies::validate,
    schema: schema_of::<ValidatingAdmissionPolicy>,
    has_generation: true,
    ..Kind::NONE
};
