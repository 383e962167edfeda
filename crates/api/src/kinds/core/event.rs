//! What happened to an object.

use k8s_openapi::api::core::v1::Event;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    verbs: verbs::ALL,
    schema: schema_of::<Event>,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};
