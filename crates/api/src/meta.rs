//! `metadata`: checked on create and on update in upstream's words, and the names that the server makes up.

use serde_json::Value;

use crate::field::FieldErrors;
use crate::kind::Kind;

/// `metadata` of an object about to be made. Call it after `generateName` was turned into a name.
pub fn validate_create(kind: &Kind, object: &Value) -> FieldErrors {
    let (_, _) = (kind, object);
    todo!()
}

/// `metadata` of an object about to replace `old`.
pub fn validate_update(kind: &Kind, object: &Value, old: &Value) -> FieldErrors {
    let (_, _, _) = (kind, object, old);
    todo!()
}

/// `base` (cut to fit) and five characters drawn from upstream's alphabet by `random`.
pub fn generate_name(base: &str, random: [u8; 5]) -> String {
    let (_, _) = (base, random);
    todo!()
}
