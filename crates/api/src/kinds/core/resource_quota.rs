//! What a namespace may use in all.

use k8s_openapi::api::core::v1::ResourceQuota;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("ResourceQuota")],
    schema: schema_of::<ResourceQuota>,
    ..Kind::NONE
};
