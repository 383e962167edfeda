//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

use super::{PatchError, object};

/// RFC 7386. The patch of an object must be an object itself.
///
/// # Errors
/// If the patch isn't a JSON object.
pub fn merge_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = object(patch).map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    let mut merged = document.clone();
    merge(&mut merged, patch);
    Ok(merged)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn examples_of_rfc_7386() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (document, patch, expected) in cases {
            let bytes = serde_json::to_vec(&patch).expect("a JSON value");
            assert_eq!(merge_patch(&document, &bytes), Ok(expected.clone()), "{document} with {patch}");
            // A patch applied twice is once.
            assert_eq!(merge_patch(&expected, &bytes), Ok(expected), "{patch} again");
        }
        for patch in ["", "[]", "3", "{"] {
            assert!(matches!(merge_patch(&json!({}), patch.as_bytes()), Err(PatchError::Malformed(_))), "{patch}");
        }
    }
}
