//! Server-side tables (`meta.k8s.io/v1` `Table`): what `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;

/// `includeObject` of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// A `PartialObjectMetadata`.
    #[default]
    Metadata,
    Object,
    None,
}

impl IncludeObject {
    /// The query parameter's value; empty means the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            "None" => Some(Self::None),
            _ => None,
        }
    }
}

/// A table of `objects`. `list_metadata` is `metadata` of the list (or of the one object).
pub fn table(kind: &Kind, objects: &[Value], list_metadata: Value, include: IncludeObject, now: Timestamp) -> Value {
    let columns = kind.columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.r#type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    let rows = objects.iter().map(|object| row(kind, object, include, now));
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn row(kind: &Kind, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let shown = match include {
        IncludeObject::Metadata => partial_metadata(object),
        IncludeObject::Object => object.clone(),
        IncludeObject::None => Value::Null,
    };
    json!({ "cells": (kind.row)(object, now), "object": shown })
}

/// The `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_what_was_asked_for() {
        let kind = crate::kinds::by_kind("", "v1", "ConfigMap").expect("a served kind");
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "data": { "a": "1" },
            "metadata": { "name": "m", "creationTimestamp": "2026-01-01T00:00:00Z" },
        });
        let now = "2026-01-01T00:05:30Z".parse().expect("a time");
        let partial = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        });
        for (include, expected) in
            [(IncludeObject::Metadata, &partial), (IncludeObject::Object, &object), (IncludeObject::None, &Value::Null)]
        {
            let table = table(kind, std::slice::from_ref(&object), json!({ "resourceVersion": "7" }), include, now);
            assert_eq!(table["metadata"]["resourceVersion"], "7");
            assert_eq!(table["rows"][0]["cells"], json!(["m", 1, "5m30s"]));
            assert_eq!(table["rows"][0]["object"], *expected);
            let names: Vec<&Value> =
                table["columnDefinitions"].as_array().into_iter().flatten().map(|column| &column["name"]).collect();
            assert_eq!(names, ["Name", "Data", "Age"]);
        }
        assert_eq!(IncludeObject::parse("Everything"), None);
    }
}
