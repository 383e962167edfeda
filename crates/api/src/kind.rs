//! What is known of a kind: one static entry each, gathered in [`crate::kinds`].

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::field::FieldErrors;

/// A served kind. Built with struct update from [`Kind::NONE`], so that an entry names only what is particular to it.
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// In discovery's order. Kinds that are asked but not stored (reviews) have only `create`.
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// k8s-openapi's schema of the kind, descriptions and all.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Upstream's printer columns, `Name` and `Age` included; cells come from `row`.
    pub columns: &'static [Column],
    /// One cell for each of `columns`.
    pub row: fn(object: &Value, now: Timestamp) -> Vec<Value>,
    /// Sets upstream's defaults; run on every create and update, before validation.
    pub default: fn(object: &mut Value),
    /// Everything past `metadata`. `old` is set on update: immutable fields are checked against it.
    pub validate: fn(object: &Value, old: Option<&Value>) -> FieldErrors,
    /// What the server itself sets or clears when an object is made or changed, before defaults (upstream's
    /// strategy `PrepareForCreate`/`PrepareForUpdate` apart from `status` and `generation`, which are generic).
    pub prepare: fn(object: &mut Value, old: Option<&Value>),
    /// Fields that a field selector may name besides `metadata.name` and `metadata.namespace`, with their values.
    pub selectable: fn(object: &Value) -> Vec<(&'static str, String)>,
    /// Names of the fields in `selectable`, for telling a wrong selector from one that matches nothing.
    pub selectable_names: &'static [&'static str],
    /// How names are checked.
    pub names: NameRule,
    /// `metadata.generation` counts the changes of `spec`.
    pub has_generation: bool,
    /// False for a kind that is stored but that nothing acts on yet: its create answers with a `Warning`.
    pub acted_on: bool,
}

/// A subresource: `status`, `scale`, `binding`, `eviction`, `log`, `exec` …
pub struct Subresource {
    pub name: &'static str,
    /// Kind of the body, such as `Scale`; the parent's own for `status`.
    pub kind: &'static str,
    /// `group/version` of that kind when it isn't the parent's.
    pub group_version: Option<(&'static str, &'static str)>,
    pub verbs: &'static [&'static str],
}

/// One column of a server-side table.
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub r#type: &'static str,
    /// `name` for the Name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: i32,
}

/// Upstream's name validation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// `NameIsDNSSubdomain`: most kinds.
    DnsSubdomain,
    /// `NameIsDNSLabel`: namespaces, services in 1.36 relaxed as upstream has it.
    DnsLabel,
    /// `NameIsDNS1035Label`.
    Dns1035Label,
    /// Path segments: RBAC kinds.
    PathSegment,
}
