//! A registry in memory for the tests of authentication, authorization, admission and bootstrap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tug_api::{Kind, Object, ObjectKey, kinds};

use super::Access;
use crate::objects::Objects;
use crate::pki::Pki;
use crate::status::Status;

/// Stores what it is given, checks nothing, counts its writes.
#[derive(Default)]
pub(crate) struct Registry {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    revision: u64,
    objects: BTreeMap<(&'static str, &'static str, ObjectKey), Arc<Object>>,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn with(values: &[Value]) -> Arc<Self> {
        let registry = Self::default();
        for value in values {
            registry.put(value.clone());
        }
        Arc::new(registry)
    }

    pub(crate) fn put(&self, value: Value) {
        let api_version = value["apiVersion"].as_str().expect("apiVersion");
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let kind = kinds::by_kind(group, version, value["kind"].as_str().expect("kind")).expect("a served kind");
        self.store(kind, value);
    }

    pub(crate) fn remove(&self, kind: &'static Kind, key: &ObjectKey) {
        let mut held = self.held.lock();
        held.revision += 1;
        held.objects.remove(&(kind.group, kind.plural, key.clone()));
    }

    pub(crate) fn writes(&self) -> u64 {
        self.held.lock().revision
    }

    fn store(&self, kind: &'static Kind, mut value: Value) -> Arc<Object> {
        let mut held = self.held.lock();
        held.revision += 1;
        value["metadata"]["resourceVersion"] = held.revision.to_string().into();
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = format!("uid-{}", held.revision).into();
        }
        let object = Object::decode(Bytes::from(value.to_string())).expect("an object");
        let object = Arc::new(object);
        held.objects.insert((kind.group, kind.plural, object.key.clone()), object.clone());
        object
    }
}

#[async_trait]
impl Objects for Registry {
    fn get(&self, kind: &'static Kind, key: &ObjectKey) -> Option<Arc<Object>> {
        self.held.lock().objects.get(&(kind.group, kind.plural, key.clone())).cloned()
    }

    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let held = self.held.lock();
        let of_kind =
            held.objects.iter().filter(|((group, plural, _), _)| (*group, *plural) == (kind.group, kind.plural));
        let of_kind = of_kind.filter(|((_, _, key), _)| namespace.is_none_or(|namespace| key.namespace == namespace));
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    fn revision(&self, _kind: &'static Kind) -> u64 {
        self.held.lock().revision
    }

    async fn create(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status> {
        Ok(self.store(kind, value))
    }

    async fn update(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status> {
        Ok(self.store(kind, value))
    }
}

/// A directory of its own, removed with it.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tug-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Left behind at worst; the test's result stands.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn access(registry: &Arc<Registry>) -> Access {
    let dir = Dir::new();
    let pki = Arc::new(Pki::load_or_create(&dir.0, &[]).expect("an authority"));
    Access::new(pki, registry.clone(), tokio_util::sync::CancellationToken::new()).expect("usable keys")
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub(crate) fn service_account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

pub(crate) fn pod(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}
