//! Objects made, replaced and patched.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;
use tug_api::field::FieldError;
use tug_api::{Kind, Object, ObjectKey, PatchError, golang, patch, schema};

use super::options::{FieldValidation, WriteOptions};
use super::{Call, apply};
use crate::admission;
use crate::api::Inbound;
use crate::body::Body;
use crate::negotiate;
use crate::registry::{Part, place};
use crate::status::Status;

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Operations of one JSON patch, as upstream.
const MOST_OPERATIONS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
}

/// A patch on its way to an object.
pub struct Patch {
    pub kind: PatchKind,
    pub bytes: Vec<u8>,
}

pub async fn create(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("CreateOptions", call.query)?;
    let value = call.decode_as(call.kind, body, options.fields).await?;
    let namespace = call.key().namespace;
    admission::wait_for_account(&call.api.registry.cache, &call.attributes(), &value).await;
    let object = call.api.registry.create(call.kind, &namespace, value, call.writing(&options)).await?;
    call.created(&object)
}

pub async fn update(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("UpdateOptions", call.query)?;
    let value = call.decode_as(call.kind, body, options.fields).await?;
    let key = call.key();
    let value = named(value, &key)?;
    let exists = call.api.registry.cache.get(call.kind, &key).is_some();
    let asked = value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    if !exists && call.kind.create_on_update && matches!(asked, "" | "0") && uid.is_empty() {
        call.may_create()?;
        let object = call.api.registry.create(call.kind, &key.namespace, value, call.writing(&options)).await?;
        return call.created(&object);
    }
    let change = |_| Ok(value.clone());
    let object = call.api.registry.update(call.kind, &key, Part::Spec, call.writing(&options), &change).await?;
    call.object(StatusCode::OK, &object)
}

pub async fn patch(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    if apply::is_asked(call) {
        return apply::apply(call, body, Part::Spec).await;
    }
    let patch = Patch::read(call, body).await?;
    let options = WriteOptions::parse("PatchOptions", call.query)?;
    let key = call.key();
    let change = |old: Value| call.patched(&patch, call.kind, &key, old, options.fields);
    let object = call.api.registry.update(call.kind, &key, Part::Spec, call.writing(&options), &change).await?;
    call.object(StatusCode::OK, &object)
}

/// The body's name and namespace must be the path's, where it has them.
///
/// # Errors
/// 400 in upstream's words.
pub fn named(mut value: Value, key: &ObjectKey) -> Result<Value, Status> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let message =
            format!("the name of the object ({} based on URL) was undeterminable: name must be provided", key.name);
        return Err(Status::bad_request(message));
    }
    if name != key.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", key.name);
        return Err(Status::bad_request(message));
    }
    place(&mut value, &key.namespace)?;
    Ok(value)
}

// === impl Patch ===

impl Patch {
    /// # Errors
    /// 415 for patches of another kind, 413.
    pub async fn read(call: &Call<'_>, body: Inbound) -> Result<Self, Status> {
        let kind = match negotiate::media_type(call.headers).as_str() {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            _ => return Err(Status::unsupported_media_type(PATCHES)),
        };
        let bytes = body.read().await?.to_vec();
        if kind == PatchKind::Json
            && let Ok(operations) = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&bytes)
            && operations.len() > MOST_OPERATIONS
        {
            let mut status = Status::too_large(MOST_OPERATIONS);
            status.message = format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                operations.len()
            );
            return Err(status);
        }
        Ok(Self { kind, bytes })
    }

    /// The patched document.
    ///
    /// # Errors
    /// 400 for a malformed patch, 422 for one that doesn't fit.
    pub fn apply(&self, kind: &'static Kind, old: &Value) -> Result<Value, Status> {
        let patched = match self.kind {
            PatchKind::Json => patch::json_patch(old, &self.bytes),
            PatchKind::Merge => patch::merge_patch(old, &self.bytes),
            PatchKind::Strategic => patch::strategic_patch(kind, old, &self.bytes),
        };
        patched.map_err(|error| match error {
            PatchError::Malformed(message) => Status::bad_request(message),
            PatchError::Unprocessable(message) => {
                Status::unprocessable("", "", "", "").with_cause("UnexpectedServerResponse", message, "")
            }
        })
    }
}

// === impl Call ===

impl Call<'_> {
    /// Answers with an object that was made now.
    pub fn created(&self, object: &Arc<Object>) -> Result<Response<Body>, Status> {
        if !self.kind.acted_on {
            let (kind, group) = (self.kind.kind, self.kind.group);
            let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
            self.warn(format!("{kind}{of} is stored, but this version of Tug doesn't act on it yet"));
        }
        self.object(StatusCode::CREATED, object)
    }

    /// `old` with a patch applied, checked as a body would be.
    ///
    /// # Errors
    /// What is wrong with the patch, or with what comes out of it.
    pub fn patched(
        &self,
        patch: &Patch,
        kind: &'static Kind,
        key: &ObjectKey,
        old: Value,
        fields: FieldValidation,
    ) -> Result<Value, Status> {
        let mut new = patch.apply(kind, &old)?;
        let shown = match patch.kind {
            PatchKind::Strategic => {
                serde_json::from_slice::<Value>(&patch.bytes).map(|value| golang::printed(&value)).unwrap_or_default()
            }
            PatchKind::Json | PatchKind::Merge => new.to_string(),
        };
        let refused = |detail: String| {
            let error = FieldError::invalid("patch", &Value::from(shown.clone()), &detail);
            Status::invalid_kind("", "", "", vec![error])
        };
        if new["apiVersion"] != old["apiVersion"] || new["kind"] != old["kind"] {
            let (kind, version) = (golang::printed(&new["kind"]), golang::printed(&new["apiVersion"]));
            return Err(refused(format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
        let uid = &new["metadata"]["uid"];
        if uid.as_str().is_some_and(|uid| !uid.is_empty()) && *uid != old["metadata"]["uid"] {
            let error = FieldError::invalid("metadata.uid", uid, "field is immutable");
            return Err(Status::invalid(kind, &key.name, vec![error]));
        }
        let checked = schema::check(kind, &mut new);
        if let Some(error) = checked.type_error {
            return Err(refused(error));
        }
        let unknown = [schema::duplicate_fields(&patch.bytes), checked.unknown].concat();
        match fields {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => unknown.into_iter().for_each(|text| self.warn(text)),
            FieldValidation::Strict if unknown.is_empty() => {}
            FieldValidation::Strict => {
                return Err(refused(format!("strict decoding error: {}", unknown.join(", "))));
            }
        }
        named(new, key)
    }
}
