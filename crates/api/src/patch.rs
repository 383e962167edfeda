//! The three patches of `PATCH` requests, as pure functions from a document to a document.

mod json;
mod merge;
mod strategic;

pub use json::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_patch;

use serde_json::Value;

use crate::golang;

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

/// A patch as an object, or Go's words about what else it is.
fn object(patch: &[u8]) -> Result<Value, String> {
    match golang::unmarshal_error(patch, Value::is_object, "map[string]interface {}") {
        Some(error) => Err(error),
        None => serde_json::from_slice(patch).map_err(|error| error.to_string()),
    }
}
