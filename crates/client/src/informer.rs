//! A local copy of the objects of one scope, kept by a watch, shared by all who ask for the same scope.

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;
use tug_api::{Object, ObjectKey};

use crate::source::{Scope, Source};

/// Hands out informers, one for each scope.
#[derive(Clone)]
pub struct Informers {
    source: Arc<dyn Source>,
}

/// A change of one object; `old` is `None` for one that is new here, `new` is `None` for one that is gone.
pub struct Change {
    pub old: Option<Arc<Object>>,
    pub new: Option<Arc<Object>>,
}

impl Change {
    /// The newest state known.
    pub fn object(&self) -> &Arc<Object> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has at least one side")
    }
}

/// The local copy. Cheap to clone. Reads never wait.
pub struct Informer<K> {
    kind: PhantomData<fn() -> K>,
}

impl Informers {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// All objects of `K`.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        let _ = &self.source;
        todo!()
    }

    /// Those of `K` that `scope` (its group, version and plural are filled in here) lets through.
    pub fn scoped<K>(&self, scope: Scope) -> Informer<K>
    where
        K: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        let _ = scope;
        todo!()
    }
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { kind: PhantomData }
    }
}

impl<K: DeserializeOwned + Send + Sync + 'static> Informer<K> {
    /// Returns once the first listing is in.
    pub async fn synced(&self) {
        todo!()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let _ = (namespace, name);
        todo!()
    }

    /// The object without decoding it.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        let _ = key;
        todo!()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        todo!()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let _ = namespace;
        todo!()
    }

    /// Objects without decoding them.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        todo!()
    }

    /// Those whose owner references name `uid`, from an index.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let _ = uid;
        todo!()
    }

    /// Calls `f` for every object that is here now, then for every change, in order, from the informer's task: it must
    /// not block. Usually it adds keys to a [`crate::Queue`].
    pub fn subscribe(&self, f: impl Fn(&Change) + Send + Sync + 'static) {
        let _ = f;
        todo!()
    }
}
