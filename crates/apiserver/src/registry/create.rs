//! New objects.

use std::sync::Arc;

use serde_json::{Map, Value};
use tug_api::{Kind, Object, ObjectKey, meta};
use tug_store::Condition;
use uuid::Uuid;

use super::{CommitError, Registry, Writing, metadata, place, served, unstored};
use crate::admission::Operation;
use crate::status::Status;

/// Names made up from a `generateName` before giving up, as upstream.
const NAMES: usize = 8;

impl Registry {
    /// Stores a new object, whose unknown fields have been dropped already, in `namespace` (empty for cluster-scoped kinds).
    ///
    /// # Errors
    /// What admission, validation, or an object of the same name stands against.
    pub async fn create(
        &self,
        kind: &'static Kind,
        namespace: &str,
        mut value: Value,
        writing: Writing<'_>,
    ) -> Result<Arc<Object>, Status> {
        let stored = kind.storage();
        place(&mut value, namespace)?;
        if let Some(stored_as) = kind.stored_as {
            (stored_as.to_stored)(&mut value);
        }
        if !stored.status_on_create
            && stored.subresources.iter().any(|sub| sub.name == "status")
            && let Some(fields) = value.as_object_mut()
        {
            match (stored.new_status)() {
                Some(status) => drop(fields.insert("status".into(), status)),
                None => drop(fields.entry("status").or_insert_with(|| Value::Object(Map::new()))),
            }
        }
        if !metadata::text(&value, "resourceVersion").is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        metadata::begin(&mut value, Uuid::new_v4().to_string(), writing.applies);
        (stored.default)(&mut value);
        writing.admission.admit(Operation::Create, Some(&mut value), None)?;
        (stored.prepare)(&mut value, None);
        (stored.default)(&mut value);
        if stored.has_generation {
            metadata::set_generation(&mut value, None);
        }

        let base = match metadata::text(&value, "name") {
            "" => metadata::text(&value, "generateName").to_owned(),
            _ => String::new(),
        };
        let reserved = self.services.assign(&self.cache, stored, &mut value, None)?;
        for attempt in 1.. {
            if !base.is_empty() {
                let name = meta::generate_name(&base, rand::random());
                metadata::of(&mut value).insert("name".into(), name.into());
            }
            let key = ObjectKey::new(namespace, metadata::text(&value, "name"));
            let mut errors = meta::validate_create(stored, &value);
            errors.extend((stored.validate)(&value, None));
            if !errors.is_empty() {
                return Err(Status::invalid(kind, &key.name, errors));
            }
            let taken = if writing.dry_run {
                match self.cache.get(kind, &key) {
                    None => return served(kind, unstored(&value)?),
                    Some(existing) => Some(existing.revision),
                }
            } else {
                match self.commit(stored, &key, &value, Condition::Absent).await {
                    Ok(object) => return served(kind, object),
                    Err(CommitError::Failed(status)) => return Err(status),
                    Err(CommitError::Conflict(winner)) => winner,
                }
            };
            if base.is_empty() {
                self.caught_up(taken).await;
                let mut status = Status::already_exists(kind, &key.name);
                if self.cache.get(kind, &key).is_some_and(|object| object.meta.deletion_timestamp.is_some()) {
                    status.message = format!("object is being deleted: {}", status.message);
                }
                return Err(status);
            }
            if attempt == NAMES {
                return Err(Status::generated_name_taken(kind, &key.name));
            }
        }
        drop(reserved);
        Err(Status::internal("no name was found"))
    }
}
