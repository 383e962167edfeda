//! How many pods may be away at once.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("PodDisruptionBudget")],
    schema: schema_of::<PodDisruptionBudget>,
    has_generation: true,
    unconditional_update: false,
    ..Kind::NONE
};
