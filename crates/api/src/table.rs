//! Server-side tables (`meta.k8s.io/v1` `Table`): what `kubectl get` prints.

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Kind;

/// `includeObject` of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// A `PartialObjectMetadata`.
    #[default]
    Metadata,
    Object,
    None,
}

/// A table of `objects`. `list_metadata` is `metadata` of the list (or of the one object).
pub fn table(kind: &Kind, objects: &[Value], list_metadata: Value, include: IncludeObject, now: Timestamp) -> Value {
    let (_, _, _, _, _) = (kind, objects, list_metadata, include, now);
    todo!()
}

/// The `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Value) -> Value {
    let _ = object;
    todo!()
}
