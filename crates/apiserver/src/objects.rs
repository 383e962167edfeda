//! The registry as the server's own parts see it: authorization, admission and bootstrap read and write objects here,
//! past authentication, authorization and admission.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tug_api::{Kind, Object, ObjectKey};

use crate::status::Status;

/// All objects of all kinds, from memory; writes go to the store.
#[async_trait]
pub trait Objects: Send + Sync {
    fn get(&self, kind: &'static Kind, key: &ObjectKey) -> Option<Arc<Object>>;

    /// In order of namespace and name; of all namespaces when `None`.
    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// The revision of the newest change of any object of `kind`: what was computed from them holds until it moves.
    fn revision(&self, kind: &'static Kind) -> u64;

    /// Defaults, validates and stores a new object.
    ///
    /// # Errors
    /// `AlreadyExists` if it does, `Invalid` if it isn't valid.
    async fn create(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status>;

    /// Replaces an object, `status` included. `metadata.resourceVersion`, where given, must be the current one.
    async fn update(&self, kind: &'static Kind, value: Value) -> Result<Arc<Object>, Status>;
}
