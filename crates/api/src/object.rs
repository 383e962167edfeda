//! An object as it lives in memory: once, behind an `Arc`, with its key, its revision and the JSON bytes that answer
//! every reader. The typed view is decoded at first use, shared, and dropped with its last user.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The part of `metadata` that generic code decides on, decoded when the object is made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    pub owner_references: Vec<OwnerReference>,
    pub creation_timestamp: Option<String>,
    pub deletion_timestamp: Option<String>,
}

impl Meta {
    /// The owner with `controller: true`, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }
}

/// One revision of one object.
pub struct Object {
    pub key: ObjectKey,
    /// `metadata.resourceVersion` as a number.
    pub revision: u64,
    pub meta: Meta,
    json: Bytes,
    typed: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

impl Object {
    /// Takes a whole object as JSON, `metadata.resourceVersion` included.
    ///
    /// # Errors
    /// If the bytes aren't a JSON object with a well-formed `metadata`.
    pub fn decode(json: Bytes) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            metadata: Meta,
        }
        let Envelope { metadata: meta } = serde_json::from_slice(&json)?;
        Ok(Self::from_parts(meta, json))
    }

    /// For callers that have decoded the metadata already.
    pub fn from_parts(meta: Meta, json: Bytes) -> Self {
        Self {
            key: ObjectKey::new(meta.namespace.clone(), meta.name.clone()),
            revision: meta.resource_version.parse().unwrap_or(0),
            meta,
            json,
            typed: Mutex::new(None),
        }
    }

    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// A decoded copy, for code that walks fields by path.
    ///
    /// # Errors
    /// If the bytes aren't JSON, which a stored object's always are.
    pub fn value(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.json)
    }

    /// The typed view, shared with whoever else holds it.
    ///
    /// # Errors
    /// If the object doesn't have the shape of `K`.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<K>, serde_json::Error> {
        let mut slot = self.typed.lock();
        if let Some(held) = slot.as_ref().and_then(Weak::upgrade)
            && let Ok(view) = held.downcast::<K>()
        {
            return Ok(view);
        }
        let view: Arc<K> = Arc::new(serde_json::from_slice(&self.json)?);
        let any: Arc<dyn Any + Send + Sync> = view.clone();
        *slot = Some(Arc::downgrade(&any));
        Ok(view)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} @{})", self.key, self.revision)
    }
}
