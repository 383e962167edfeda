//! Settings by key.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    verbs: verbs::ALL,
    schema: schema_of::<ConfigMap>,
    acted_on: true,
    ..Kind::NONE
};
