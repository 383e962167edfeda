//! The three patches of `PATCH` requests, as pure functions from a document to a document.

use serde_json::Value;

use crate::kind::Kind;

/// Why a patch can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400 `BadRequest`.
    #[error("{0}")]
    Malformed(String),
    /// Well-formed, but it doesn't fit this object: 422 `Invalid`.
    #[error("{0}")]
    Unprocessable(String),
}

/// RFC 6902.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let (_, _) = (document, patch);
    todo!()
}

/// RFC 7386.
pub fn merge_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let (_, _) = (document, patch);
    todo!()
}

/// Kubernetes' strategic merge patch.
pub fn strategic_patch(kind: &Kind, document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let (_, _, _) = (kind, document, patch);
    todo!()
}
