//! Health of the control plane's parts, long deprecated upstream: always an empty list.

use k8s_openapi::api::core::v1::ComponentStatus;

use crate::kind::Kind;
use crate::kinds::part::schema_of;

pub static COMPONENT_STATUS: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    verbs: &["get", "list"],
    schema: schema_of::<ComponentStatus>,
    acted_on: true,
    deprecated: "deprecated in v1.19+",
    ..Kind::NONE
};
