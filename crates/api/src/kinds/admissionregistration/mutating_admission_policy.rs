//! Changes to objects on their way in, as expressions.

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;

use super::policies;
use crate::kind::{Column, Kind};
use crate::kinds::part::{schema_of, verbs};

pub static MUTATING_ADMISSION_POLICY: Kind = Kind {
    group: "admissionregistration.k8s.io",
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::number("Mutations", "How many expressions it has."),
        Column::text("ParamKind", "Kind of the objects with its settings."),
        Column::AGE,
    ],
    row: policies::row,
    default: policies::default,
    validate: policies::validate,
    schema: schema_of::<MutatingAdmissionPolicy>,
    has_generation: true,
    ..Kind::NONE
};
