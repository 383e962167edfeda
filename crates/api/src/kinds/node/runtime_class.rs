//! Which runtime runs a pod.

use k8s_openapi::api::node::v1::RuntimeClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<RuntimeClass>,
    ..Kind::NONE
};
