//! Which objects of a kind a request is about: namespace, labels and fields.

use std::sync::Arc;

use tug_api::{FieldSelector, Kind, Object, Selector};

use crate::request::Query;
use crate::status::Status;

/// Takes everything by default.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Empty for all.
    pub namespace: String,
    pub labels: Selector,
    pub fields: FieldSelector,
}

/// Every field that a selector may name, with its value.
pub fn field_values(kind: &Kind, object: &Object) -> Vec<(&'static str, String)> {
    let mut values =
        vec![("metadata.name", object.key.name.clone()), ("metadata.namespace", object.key.namespace.clone())];
    if !kind.selectable_names.is_empty()
        && let Ok(value) = object.value()
    {
        values.extend((kind.selectable)(&value));
    }
    values
}

// === impl Select ===

impl Select {
    /// From `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 if one of them can't be parsed, or names a field that the kind can't be selected by.
    pub fn parse(kind: &Kind, namespace: &str, query: &Query) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map(Selector::parse).transpose();
        let labels = labels.map_err(|error| Status::bad_request(error.to_string()))?;
        let fields = query.get("fieldSelector").map(FieldSelector::parse).transpose();
        let fields = fields.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            let plain = kind.selectable_names.is_empty();
            let generic = field == "metadata.name" || (field == "metadata.namespace" && (kind.namespaced || plain));
            if generic || kind.selectable_names.contains(&field) {
                continue;
            }
            return Err(Status::bad_request(if plain {
                format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(Self { namespace: namespace.into(), labels: labels.unwrap_or_default(), fields })
    }

    /// True if every object of the namespace is taken.
    pub fn takes_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, kind: &Kind, object: &Object) -> bool {
        if !self.namespace.is_empty() && self.namespace != object.key.namespace {
            return false;
        }
        if !self.labels.is_empty() && !self.labels.matches(&object.meta.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        // Names don't need the object decoded.
        let generic = |field: &str| match field {
            "metadata.name" => Some(object.key.name.clone()),
            "metadata.namespace" => Some(object.key.namespace.clone()),
            _ => None,
        };
        if self.fields.requirements().iter().all(|r| r.field.starts_with("metadata.")) {
            return self.fields.matches(generic);
        }
        let values = field_values(kind, object);
        self.fields.matches(|field| values.iter().find(|(name, _)| *name == field).map(|(_, value)| value.clone()))
    }

    pub fn filter(&self, kind: &Kind, mut objects: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
        if !self.takes_all() {
            objects.retain(|object| self.matches(kind, object));
        }
        objects
    }
}
