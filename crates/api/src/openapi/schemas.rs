//! Component schemas: the generated ones, with what they lack added (merge keys, list types, group-version-kinds) and
//! with lists of every kind.

use std::collections::HashMap;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::merge;

const GVK: &str = "x-kubernetes-group-version-kind";
/// Type and field, and the values that it may have, as Kubernetes 1.36 has them. Sorted.
pub(super) const ENUMS: &str = include_str!("enums.txt");
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Types whose `name` upstream doesn't require, though the generated ones, which always have it, say so. Sorted.
const NAMED_AT_WILL: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapEnvSource",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.ConfigMapProjection",
    "io.k8s.api.core.v1.ConfigMapVolumeSource",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.SecretEnvSource",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretProjection",
];

pub(super) struct Components {
    pub schemas: Map<String, Value>,
    /// The schema's name for each of the kinds given, in their order.
    names: Vec<(&'static str, String)>,
}

impl Components {
    /// The schema of a kind that this document is about.
    pub fn name(&self, kind: &Kind) -> Option<&str> {
        self.names.iter().find(|(name, _)| *name == kind.kind).map(|(_, schema)| schema.as_str())
    }
}

/// Schemas of `kinds` and of all that they are made of. `prefix` is where references point into.
pub(super) fn of(kinds: &[&'static Kind], prefix: &str) -> Components {
    let mut generator = SchemaGenerator::default();
    let references: Vec<Value> = kinds.iter().map(|kind| (kind.schema)(&mut generator).to_value()).collect();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<Status>();
    let mut schemas = generator.take_definitions(false);
    for (name, schema) in &mut schemas {
        complete(name, schema, prefix);
    }
    let mut names = Vec::with_capacity(kinds.len());
    for (kind, reference) in kinds.iter().zip(references) {
        let Some(name) = reference.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) else {
            continue;
        };
        names.push((kind.kind, name.to_owned()));
        let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) else { continue };
        let gvk = |kind_name: &str| json!({ "group": kind.group, "version": kind.version, "kind": kind_name });
        // A schema may serve two kinds' entries: each is listed.
        match schema.entry(GVK).or_insert_with(|| json!([])) {
            Value::Array(listed) if !listed.contains(&gvk(kind.kind)) => listed.push(gvk(kind.kind)),
            _ => {}
        }
        if kind.verbs.contains(&"list") {
            let list = list_schema(kind, name, schema, prefix, gvk(&format!("{}List", kind.kind)));
            schemas.insert(format!("{name}List"), list);
        }
    }
    Components { schemas, names }
}

fn list_schema(kind: &Kind, name: &str, item: &Map<String, Value>, prefix: &str, gvk: Value) -> Value {
    let property = |field: &str| item.get("properties").and_then(|p| p.get(field)).cloned();
    json!({
        "description": format!("{0}List is a list of {0} objects.", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": property("apiVersion"),
            "kind": property("kind"),
            "metadata": { "allOf": [{ "$ref": format!("{prefix}{LIST_META}") }], "description": "Of the list itself." },
            "items": {
                "description": "The objects, in the order of their names.",
                "type": "array",
                "items": { "$ref": format!("{prefix}{name}") },
            },
        },
        GVK: [gvk],
    })
}

/// Brings one generated definition into upstream's form.
fn complete(name: &str, schema: &mut Value, prefix: &str) {
    relocate(schema, prefix);
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.remove("x-kubernetes-int-or-string").is_some() {
        let (format, other) =
            if name.ends_with(".IntOrString") { (Some("int-or-string"), "integer") } else { (None, "number") };
        fields.insert("oneOf".into(), json!([{ "type": "string" }, { "type": other }]));
        if let Some(format) = format {
            fields.insert("format".into(), format.into());
        }
    }
    if merge::is_atomic(name) {
        fields.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    // Generated for clients, which always have it; upstream requires it of one kind alone.
    if name != "io.k8s.api.core.v1.Event" {
        relax(fields, "metadata");
    }
    if NAMED_AT_WILL.binary_search(&name).is_ok() {
        relax(fields, "name");
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        if let Some(property) = property.as_object_mut() {
            annotate(name, field, property);
        }
    }
}

/// Requires a field no longer.
fn relax(schema: &mut Map<String, Value>, field: &str) {
    let Some(Value::Array(required)) = schema.get_mut("required") else { return };
    required.retain(|name| name != field);
    if required.is_empty() {
        schema.remove("required");
    }
}

/// The values that the field may have, where they are a closed set.
fn values(name: &str, field: &str) -> Option<Vec<&'static str>> {
    static BY_FIELD: LazyLock<HashMap<&str, &str>> =
        LazyLock::new(|| ENUMS.lines().filter_map(|line| line.split_once(' ')).collect());
    Some(BY_FIELD.get(format!("{name}.{field}").as_str())?.split(',').collect())
}

fn annotate(name: &str, field: &str, property: &mut Map<String, Value>) {
    if let Some(values) = values(name, field) {
        let part = ["items", "additionalProperties"].into_iter().find(|part| property.contains_key(*part));
        let holder = part.and_then(|part| property.get_mut(part)?.as_object_mut());
        let values = json!(values);
        match holder {
            Some(part) => part.insert("enum".into(), values),
            None => property.insert("enum".into(), values),
        };
    }
    let is_list = property.get("type").and_then(Value::as_str) == Some("array");
    let Some(merge) = merge::of_field(name, field) else {
        if is_list {
            property.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        return;
    };
    let kind = if is_list { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" };
    let texts = [
        ("x-kubernetes-patch-strategy", merge.patch_strategy),
        ("x-kubernetes-patch-merge-key", merge.patch_key),
        (kind, merge.list_type),
    ];
    for (key, text) in texts {
        if !text.is_empty() {
            property.insert(key.into(), text.into());
        }
    }
    if !merge.map_keys.is_empty() {
        property.insert("x-kubernetes-list-map-keys".into(), json!(merge.map_keys));
    }
}

/// Points references into the document. OpenAPI 3.0 ignores what stands beside a `$ref`: such a one goes into `allOf`.
fn relocate(schema: &mut Value, prefix: &str) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(Value::String(reference)) = fields.get("$ref") {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let reference = json!({ "$ref": format!("{prefix}{name}") });
        if fields.len() == 1 {
            *schema = reference;
            return;
        }
        fields.remove("$ref");
        fields.insert("allOf".into(), json!([reference]));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(keyword) {
            relocate(inner, prefix);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("oneOf") {
        choices.iter_mut().for_each(|choice| relocate(choice, prefix));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|property| relocate(property, prefix));
    }
}
