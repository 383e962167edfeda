//! What is known of a kind: one static entry each, gathered in [`crate::kinds`].

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::columns::age_of;
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
    /// Parts that are written by subresources of their own, by those subresources' names; `status` isn't among them.
    pub parts: &'static [(&'static str, ObjectPart)],
    /// k8s-openapi's schema of the kind, descriptions and all: a reference into the generator's definitions.
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
    /// `status` of a new object, whatever its maker says of it, with the numbers that upstream shows though they are 0;
    /// `None` where the maker's word counts. Asked only of kinds with that subresource.
    pub new_status: fn() -> Option<Value>,
    /// Fields that a field selector may name besides `metadata.name` and `metadata.namespace`, with their values; those
    /// of kinds that are stored as this one too.
    pub selectable: fn(object: &Value) -> Vec<(&'static str, String)>,
    /// Names of the fields in `selectable`, for telling a wrong selector from one that matches nothing.
    pub selectable_names: &'static [&'static str],
    /// How names are checked.
    pub names: NameRule,
    /// `metadata.generation` counts the changes of `spec`, or of all but `metadata` and `status` where there is none.
    pub has_generation: bool,
    /// What a create says of `status` is kept: a kubelet registers its node with it.
    pub status_on_create: bool,
    /// A PUT of an object that isn't there makes it (upstream's `AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// A PUT without `metadata.resourceVersion` is taken (upstream's `AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// Set when objects of this kind are stored as another kind or version.
    pub stored_as: Option<&'static StoredAs>,
    /// False for a kind that is stored but that nothing acts on yet: its create answers with a `Warning`.
    pub acted_on: bool,
    /// Since when upstream advises against the kind, and what to use instead: every answer about it has a `Warning`.
    pub deprecated: &'static str,
}

impl Kind {
    /// What most kinds have: `v1`, in a namespace, nothing of its own to default or check, columns Name and Age.
    pub const NONE: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        subresources: &[],
        parts: &[],
        schema: |_| Schema::default(),
        columns: &[Column::NAME, Column::AGE],
        row: |object, now| vec![name_of(object), age_of(object, now)],
        default: |_| {},
        validate: |_, _| FieldErrors::new(),
        prepare: |_, _| {},
        new_status: || Some(json!({})),
        selectable: |_| Vec::new(),
        selectable_names: &[],
        names: NameRule::DnsSubdomain,
        has_generation: false,
        status_on_create: false,
        create_on_update: false,
        unconditional_update: true,
        stored_as: None,
        acted_on: false,
        deprecated: "",
    };

    /// As in an object's `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind under whose resource objects of this kind are kept.
    pub fn storage(&'static self) -> &'static Self {
        self.stored_as.map_or(self, |stored| stored.kind)
    }
}

/// How a kind maps to the one it is stored as. Both directions rewrite `apiVersion` and whatever differs.
pub struct StoredAs {
    pub kind: &'static Kind,
    pub to_stored: fn(&mut Value),
    pub from_stored: fn(&mut Value),
}

/// What a subresource may write of an object.
pub struct ObjectPart {
    /// The old object with this part of the new one.
    pub merge: fn(new: Value, old: &Value) -> Value,
    /// In place of the kind's own check.
    pub validate: fn(new: &Value, old: &Value) -> FieldErrors,
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

impl Column {
    pub const NAME: Self = Self {
        name: "Name",
        r#type: "string",
        format: "name",
        description: "Name of the object, unique among its kind in its namespace.",
        priority: 0,
    };
    pub const AGE: Self = Self::text("Age", "Time since the object was made.");

    pub const CREATED_AT: Self = Self { r#type: "date", ..Self::text("Created At", "When it was made.") };

    /// A column of text that is always shown.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, r#type: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers that is always shown.
    pub const fn number(name: &'static str, description: &'static str) -> Self {
        Self { name, r#type: "integer", format: "", description, priority: 0 }
    }

    /// A column of `true` and `false` that is always shown.
    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self { name, r#type: "boolean", format: "", description, priority: 0 }
    }

    /// The same column, shown only with `-o wide`.
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The Name column's cell.
fn name_of(object: &Value) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_default()
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
