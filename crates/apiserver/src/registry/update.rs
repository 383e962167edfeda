//! Objects that replace themselves: read, changed, admitted, checked, and written on condition that nobody else did.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tug_api::apply::Writer;
use tug_api::field::{FieldError, FieldErrorKind};
use tug_api::kind::ObjectPart;
use tug_api::{Kind, Object, ObjectKey, apply, meta};
use tug_store::{Condition, Write};

use super::{ATTEMPTS, CommitError, Registry, Writing, decode_stamped, metadata, served, unstored};
use crate::admission::Operation;
use crate::cache;
use crate::codec;
use crate::status::Status;

/// What of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but `status`, where that is a subresource.
    Spec,
    /// `status`, with labels and annotations where upstream lets them through.
    Status,
    /// What the kind's [`tug_api::kind::ObjectPart`] of this subresource's name says.
    Named(&'static str),
    /// Everything: for subresources that know what they do and for the server's own writes. Not prepared.
    AsGiven,
}

/// From the object as it is, in the version asked for, makes it as it shall be. Called again after a lost race.
pub type Change<'a> = &'a (dyn Fn(Value) -> Result<Value, Status> + Send + Sync);

impl Registry {
    /// Changes an object. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the changed object bears a `resourceVersion` that isn't current; what admission and
    /// validation stand against.
    pub async fn update(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        part: Part,
        writing: Writing<'_>,
        change: Change<'_>,
    ) -> Result<Arc<Object>, Status> {
        let stored = kind.storage();
        for _ in 0..ATTEMPTS {
            let current = self.cache.get(kind, key).ok_or_else(|| Status::not_found(kind, &key.name))?;
            let old = current.value().map_err(Status::internal)?;
            let mut shown = old.clone();
            if let Some(stored_as) = kind.stored_as {
                (stored_as.from_stored)(&mut shown);
            }
            let mut new = change(shown)?;
            if let Some(stored_as) = kind.stored_as {
                (stored_as.to_stored)(&mut new);
            }
            check_identity(kind, &current, &new)?;
            metadata::carry_over(&mut new, &old);
            let mut new = merge_part(stored, part, new, &old);
            (stored.default)(&mut new);
            writing.admission.admit(Operation::Update, Some(&mut new), Some(&old))?;
            if part == Part::Spec {
                (stored.prepare)(&mut new, Some(&old));
                (stored.default)(&mut new);
            }
            if stored.has_generation && part != Part::Status {
                metadata::set_generation(&mut new, Some(&old));
            }
            let _reserved = match part {
                Part::Spec => self.services.assign(&self.cache, stored, &mut new, Some(&old))?,
                Part::Status | Part::Named(_) | Part::AsGiven => None,
            };
            let mut errors = meta::validate_update(stored, &new, &old);
            match (part, named(stored, part)) {
                (Part::Spec, _) => errors.extend((stored.validate)(&new, Some(&old))),
                (_, Some(own)) => errors.extend((own.validate)(&new, &old)),
                _ => {}
            }
            if !errors.is_empty() {
                return Err(Status::invalid(kind, &key.name, errors));
            }
            if !writing.applies {
                let Writing { manager, subresource, .. } = writing;
                apply::track(stored, &old, &mut new, &Writer { manager, subresource, now: Timestamp::now() });
            }
            metadata::of(&mut new).insert("resourceVersion".into(), current.revision.to_string().into());
            if is_finished(stored, &new) {
                if writing.dry_run {
                    return served(kind, unstored(&new)?);
                }
                match self.remove(stored, key, &current).await {
                    Ok(revision) => return served(kind, decode_stamped(&codec::encode(&new), revision)?),
                    Err(CommitError::Failed(status)) => return Err(status),
                    Err(CommitError::Conflict(winner)) => {
                        self.caught_up(winner).await;
                        continue;
                    }
                }
            }
            if new == old || (!writing.applies && metadata::same_but_managers(&new, &old)) {
                return served(kind, current);
            }
            if writing.dry_run {
                return served(kind, unstored(&new)?);
            }
            match self.commit(stored, key, &new, Condition::Revision(current.revision)).await {
                Ok(object) => return served(kind, object),
                Err(CommitError::Failed(status)) => return Err(status),
                Err(CommitError::Conflict(winner)) => self.caught_up(winner).await,
            }
        }
        Err(Status::modified(kind, &key.name))
    }

    pub(super) async fn remove(
        &self,
        stored: &'static Kind,
        key: &ObjectKey,
        current: &Object,
    ) -> Result<u64, CommitError> {
        let condition = Condition::Revision(current.revision);
        self.write(Write { key: cache::store_key(stored, key), value: None, condition }).await
    }
}

/// The object that the client means must be the one that is there.
fn check_identity(kind: &'static Kind, current: &Object, new: &Value) -> Result<(), Status> {
    let (uid, name) = (metadata::text(new, "uid"), &current.key.name);
    if !uid.is_empty() && uid != current.meta.uid {
        let held = &current.meta.uid;
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {held}");
        return Err(Status::conflict(kind, name, &why));
    }
    match metadata::text(new, "resourceVersion") {
        "" | "0" if kind.unconditional_update => Ok(()),
        "" | "0" => {
            let error = FieldError {
                path: "metadata.resourceVersion".into(),
                kind: FieldErrorKind::Invalid,
                body: "Invalid value: 0x0: must be specified for an update".into(),
            };
            Err(Status::invalid(kind, name, vec![error]))
        }
        text => match text.parse::<u64>() {
            Ok(revision) if revision == current.revision => Ok(()),
            Ok(_) => Err(Status::modified(kind, name)),
            Err(_) => {
                let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
                let error = FieldError::invalid("metadata.resourceVersion", &Value::from(text), &detail);
                Err(Status::invalid(kind, name, vec![error]))
            }
        },
    }
}

fn named(kind: &'static Kind, part: Part) -> Option<&'static ObjectPart> {
    let Part::Named(name) = part else { return None };
    kind.parts.iter().find(|(known, _)| *known == name).map(|(_, own)| own)
}

/// The old object with the part of the new one that this write may change.
fn merge_part(kind: &'static Kind, part: Part, mut new: Value, old: &Value) -> Value {
    let has_status = kind.subresources.iter().any(|sub| sub.name == "status");
    match part {
        Part::AsGiven => new,
        // A part that the kind doesn't have is nothing of it.
        Part::Named(_) => named(kind, part).map_or_else(|| old.clone(), |own| (own.merge)(new, old)),
        Part::Spec if !has_status => new,
        Part::Spec => {
            set(&mut new, "status", old.get("status").cloned());
            new
        }
        Part::Status => {
            let mut merged = old.clone();
            set(&mut merged, "status", new.get("status").cloned());
            // Upstream's status strategies keep the workloads' labels but let the core kinds' through (kubelets set
            // nodes' by them); none takes owners.
            let through: &[&str] =
                if kind.group.is_empty() { &["labels", "annotations", "finalizers"] } else { &["annotations"] };
            for field in through {
                let value = new.pointer(&format!("/metadata/{field}")).cloned();
                match value {
                    Some(value) => metadata::of(&mut merged).insert((*field).into(), value),
                    None => metadata::of(&mut merged).remove(*field),
                };
            }
            merged
        }
    }
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => fields.insert(field.into(), value),
        None => fields.remove(field),
    };
}

/// True for an object that was only kept by what this write took away.
pub(super) fn is_finished(kind: &Kind, object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let held = kind.kind == "Namespace"
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    metadata::is_deleting(object) && grace == 0 && !held && metadata::finalizers(object).is_empty()
}
