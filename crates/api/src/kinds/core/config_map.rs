//! Settings by key.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::invalid;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{entries, flag};
use crate::names;

pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("Data", "How many keys it has."), Column::AGE],
    row,
    validate,
    schema: schema_of::<ConfigMap>,
    acted_on: true,
    ..Kind::NONE
};

/// A ConfigMap's or Secret's values in all.
pub const MOST_BYTES: usize = 1024 * 1024;

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = entries(object, "/data").count() + entries(object, "/binaryData").count();
    vec![cells::name(object), keys.into(), age_of(object, now)]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut bytes = 0;
    for (key, value) in entries(object, "/data") {
        let path = format!("data[{key}]");
        invalid(&mut errors, &path, key, names::config_map_key(key));
        if object.pointer("/binaryData").is_some_and(|binary| binary.get(key).is_some()) {
            errors.push(FieldError::invalid(path, &key.into(), "duplicate of key present in binaryData"));
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(object, "/binaryData") {
        invalid(&mut errors, &format!("binaryData[{key}]"), key, names::config_map_key(key));
        // Base64 as it's written, four characters for three bytes.
        bytes += value.as_str().map_or(0, str::len) / 4 * 3;
    }
    if bytes > MOST_BYTES {
        errors.push(FieldError::too_long("[]", MOST_BYTES));
    }
    if let Some(old) = old {
        immutable(&mut errors, object, old, &["data", "binaryData"]);
    }
    errors
}

/// Once `immutable` is set, it and the data stay as they are.
pub fn immutable(errors: &mut FieldErrors, object: &Value, old: &Value, keys: &[&str]) {
    if !flag(old, "/immutable") {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !flag(object, "/immutable") {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    for key in keys {
        if object.get(key) != old.get(key) {
            errors.push(FieldError::forbidden(*key, detail));
        }
    }
}
