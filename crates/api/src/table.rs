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
