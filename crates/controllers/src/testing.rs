//! Objects for tests.

use std::sync::Arc;

use serde_json::{Value, json};
use tug_api::Object;

use crate::pod::Pod;

/// `fields` under a name, which is also the uid, in namespace `n`.
pub(crate) fn object(name: &str, fields: &Value) -> Arc<Object> {
    let named = json!({ "metadata": { "name": name, "namespace": "n", "uid": name, "resourceVersion": "1" } });
    Arc::new(Object::decode(with(&named, fields).to_string().into()).expect("well-formed"))
}

/// `base` with these fields set.
pub(crate) fn with(base: &Value, fields: &Value) -> Value {
    tug_api::patch::merge_patch(base, fields.to_string().as_bytes()).expect("a merge patch")
}

pub(crate) fn pod(name: &str, fields: &Value) -> Pod {
    Pod::read(object(name, fields)).expect("a pod")
}
