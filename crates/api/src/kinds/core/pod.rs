//! Containers that live and die together.

use k8s_openapi::api::core::v1::Pod;

use crate::kind::{Kind, Subresource};
use crate::kinds::part::{schema_of, subresources, verbs};

pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[
        Subresource { name: "attach", kind: "PodAttachOptions", group_version: None, verbs: verbs::CONNECT },
        Subresource { name: "binding", kind: "Binding", group_version: None, verbs: verbs::CREATE },
        Subresource { name: "ephemeralcontainers", kind: "Pod", group_version: None, verbs: verbs::CHANGE },
        Subresource { name: "eviction", kind: "Eviction", group_version: Some(("policy", "v1")), verbs: verbs::CREATE },
        Subresource { name: "exec", kind: "PodExecOptions", group_version: None, verbs: verbs::CONNECT },
        Subresource { name: "log", kind: "Pod", group_version: None, verbs: &["get"] },
        Subresource { name: "portforward", kind: "PodPortForwardOptions", group_version: None, verbs: verbs::CONNECT },
        subresources::proxy("PodProxyOptions"),
        Subresource { name: "resize", kind: "Pod", group_version: None, verbs: verbs::CHANGE },
        subresources::status("Pod"),
    ],
    schema: schema_of::<Pod>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};
