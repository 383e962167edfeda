//! What a review asks about: a resource or a path, and one of these.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::walk::some;

pub fn validate(errors: &mut FieldErrors, spec: &Value) {
    let wrong = match (some(spec, "/resourceAttributes"), some(spec, "/nonResourceAttributes")) {
        (Some(_), Some(_)) => "cannot be specified in combination with resourceAttributes",
        (None, None) => "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        _ => return,
    };
    if some(spec, "/resourceAttributes").is_some() {
        let given = spec.get("nonResourceAttributes").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid("spec.nonResourceAttributes", given, wrong));
    } else {
        errors.push(FieldError::invalid("spec.resourceAttributes", &Value::Null, wrong));
    }
}
