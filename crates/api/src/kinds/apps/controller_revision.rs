//! A workload's earlier shape.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    verbs: verbs::ALL,
    schema: schema_of::<ControllerRevision>,
    acted_on: true,
    ..Kind::NONE
};
