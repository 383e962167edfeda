//! The shape of every kind: built at first use from the generated schemas, interned, and stripped of all that only
//! documentation needs. Decoding checks (`check`), patches and apply all walk it.

use serde_json::Value;

use crate::kind::Kind;

/// What a request's body looks like against its kind's schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`, the first found.
    pub type_error: Option<String>,
    /// `unknown field "spec.foo"`, sorted as upstream does: in the order met.
    pub unknown: Vec<String>,
}

/// Drops from `value` what the kind doesn't have (and nulls), as upstream's decoder does, and says what it met.
pub fn check(kind: &Kind, value: &mut Value) -> Checked {
    let (_, _) = (kind, value);
    todo!()
}

/// `duplicate field "spec.replicas"` for each object key that appears twice in `json`.
pub fn duplicate_fields(json: &[u8]) -> Vec<String> {
    let _ = json;
    todo!()
}
