//! Objects on their way into the store: what the server sets, defaults, admission, validation, and conditional writes.

mod create;
mod delete;
mod metadata;
mod services;
mod update;

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use serde_json::Value;
use tug_api::{Kind, Object, ObjectKey};
use tug_store::{Condition, Error, Revision, Store, Write};

pub use delete::{DeleteOptions, Deleted, Preconditions, Propagation};
pub use metadata::{now as metadata_now, place};
pub use update::Part;

use crate::admission::Operation;
use crate::cache::{self, Cache, Select};
use crate::codec;
use crate::objects::Objects;
use crate::status::Status;

/// Attempts to win a race for an object before its client is told to try again.
const ATTEMPTS: usize = 16;

/// Decides on, and may change, what is about to be stored. Called anew when a write lost a race and starts over.
pub trait Admit: Send + Sync {
    /// # Errors
    /// Whatever the client is to be told.
    fn admit(&self, operation: Operation, new: Option<&mut Value>, old: Option<&Value>) -> Result<(), Status>;
}

/// For the server's own writes.
pub struct Unconditionally;

/// How a write is done, and by whom.
#[derive(Clone, Copy)]
pub struct Writing<'a> {
    pub admission: &'a dyn Admit,
    /// Do everything but the write.
    pub dry_run: bool,
    /// Who shall manage the fields that change.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The change is a server-side apply, which has seen to the managed fields.
    pub applies: bool,
}

pub struct Registry {
    store: Arc<dyn Store>,
    pub cache: Arc<Cache>,
    services: services::Allocator,
}

// === impl Registry ===

impl Registry {
    pub fn new(
        store: Arc<dyn Store>,
        cache: Arc<Cache>,
        service_cidr: Ipv4Net,
        node_ports: std::ops::RangeInclusive<u16>,
    ) -> Self {
        Self { store, cache, services: services::Allocator::new(service_cidr, node_ports) }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The object in the version of `kind`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read(&self, kind: &'static Kind, key: &ObjectKey) -> Result<Arc<Object>, Status> {
        let object = self.cache.get(kind, key).ok_or_else(|| Status::not_found(kind, &key.name))?;
        served(kind, object)
    }

    /// Stores `value` (in the stored version), and returns it once the cache has it.
    async fn commit(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        value: &Value,
        condition: Condition,
    ) -> Result<Arc<Object>, CommitError> {
        let json = codec::encode(value);
        let write = Write { key: cache::store_key(kind, key), value: Some(json.clone().into()), condition };
        let revision = self.write(write).await?;
        match self.cache.get(kind, key) {
            Some(object) if object.revision == revision => Ok(object),
            // Somebody else has written since.
            _ => decode_stamped(&json, revision).map_err(CommitError::Failed),
        }
    }

    async fn write(&self, write: Write) -> Result<Revision, CommitError> {
        let revision = self.store.write(write).await.map_err(|error| match error {
            Error::Conflict { current } => CommitError::Conflict(current.map(|entry| entry.revision)),
            other => CommitError::Failed(store_status(&other)),
        })?;
        self.cache.holds(revision).await;
        Ok(revision)
    }

    /// After a lost race: waits until the cache shows what won it.
    async fn caught_up(&self, winner: Option<Revision>) {
        self.cache.holds(winner.unwrap_or_else(|| self.store.revision())).await;
    }
}

/// Why a write didn't happen.
enum CommitError {
    /// The object isn't what it was thought to be; with its revision, if it is there.
    Conflict(Option<Revision>),
    Failed(Status),
}

/// What a failure of the store means for a client.
pub fn store_status(error: &Error) -> Status {
    match error {
        Error::Full => Status::insufficient_storage(),
        Error::Closed => Status::service_unavailable("the server is shutting down"),
        Error::Compacted { asked, oldest } => Status::too_old(*asked, *oldest),
        Error::Future { asked, newest } => Status::too_new(*asked, *newest),
        Error::Conflict { .. } | Error::Backend { .. } => {
            tracing::error!(%error, "the store failed");
            Status::internal(error)
        }
    }
}

fn decode_stamped(json: &[u8], revision: Revision) -> Result<Arc<Object>, Status> {
    let stamped = codec::stamp(json, revision).ok_or_else(|| Status::internal("an object without metadata"))?;
    Ok(Arc::new(Object::decode(stamped).map_err(Status::internal)?))
}

/// An object that isn't stored: the answer of a dry run.
fn unstored(value: &Value) -> Result<Arc<Object>, Status> {
    let json = match value.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|r| r.parse().ok()) {
        Some(revision) => return decode_stamped(&codec::encode(value), revision),
        None => codec::encode(value),
    };
    Ok(Arc::new(Object::decode(json.into()).map_err(Status::internal)?))
}

/// A stored object as a kind serves it that is stored as another.
///
/// # Errors
/// If the object can't be read.
pub fn served(kind: &'static Kind, object: Arc<Object>) -> Result<Arc<Object>, Status> {
    let Some(stored_as) = kind.stored_as else { return Ok(object) };
    let mut value = object.value().map_err(Status::internal)?;
    (stored_as.from_stored)(&mut value);
    unstored(&value)
}

// === impl Writing ===

impl Writing<'_> {
    /// By the server itself.
    const OWN: Self =
        Self { admission: &Unconditionally, dry_run: false, manager: "tug", subresource: "", applies: false };
}

// === impl Admit ===

impl Admit for Unconditionally {
    fn admit(&self, _: Operation, _: Option<&mut Value>, _: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}

#[async_trait]
impl Objects for Registry {
    fn get(&self, kind: &'static Kind, key: &ObjectKey) -> Option<Arc<Object>> {
        self.read(kind, key).ok()
    }

    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let select = Select { namespace: namespace.unwrap_or_default().into(), ..Select::default() };
        let objects = self.cache.list(kind, &select, None, 0).objects;
        objects.into_iter().filter_map(|object| served(kind, object).ok()).collect()
    }

    fn revision(&self, kind: &'static Kind) -> u64 {
        self.cache.changed(kind)
    }

    async fn create(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status> {
        let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.create(kind, &namespace, value, Writing::OWN).await
    }

    async fn update(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
        self.update(kind, &key, Part::AsGiven, Writing::OWN, &|_| Ok(value.clone())).await
    }
}
