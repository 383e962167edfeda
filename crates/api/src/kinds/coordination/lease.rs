//! Who holds what, until when.

use k8s_openapi::api::coordination::v1::Lease;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    verbs: verbs::ALL,
    schema: schema_of::<Lease>,
    acted_on: true,
    create_on_update: true,
    unconditional_update: false,
    ..Kind::NONE
};
