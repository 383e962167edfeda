//! What entries of the table share: sets of verbs, subresources, and the way to a generated schema.

use schemars::{JsonSchema, Schema, SchemaGenerator};

pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Sets of verbs in discovery's order.
pub mod verbs {
    pub const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    /// Namespaces go one at a time.
    pub const NAMESPACE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
    pub const CREATE: &[&str] = &["create"];
    pub const CHANGE: &[&str] = &["get", "patch", "update"];
    pub const CONNECT: &[&str] = &["create", "get"];
    pub const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
}

/// Subresources that several kinds have.
pub mod subresources {
    use super::verbs;
    use crate::kind::Subresource;

    pub const SCALE: Subresource =
        Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: verbs::CHANGE };

    pub const fn status(kind: &'static str) -> Subresource {
        Subresource { name: "status", kind, group_version: None, verbs: verbs::CHANGE }
    }

    pub const fn proxy(options: &'static str) -> Subresource {
        Subresource { name: "proxy", kind: options, group_version: None, verbs: verbs::PROXY }
    }
}
