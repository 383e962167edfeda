//! JSON patch (RFC 6902), with the messages of the library that upstream's API server uses.

use serde::Deserialize;
use serde_json::Value;

use super::PatchError;
use crate::golang;

/// Upstream's limit on operations in one patch.
const MOST_OPERATIONS: usize = 10_000;
/// `copy` may double a document with every operation; upstream's limit for what copies add in all.
const MOST_COPIED_BYTES: usize = 3 << 20;

#[derive(Deserialize)]
struct Operation {
    #[serde(default)]
    op: String,
    path: Option<String>,
    from: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
}

/// Tells `"value": null` from no value at all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// RFC 6902. All operations apply, or none.
///
/// # Errors
/// `Malformed` if it isn't a list of operations, `Unprocessable` if one doesn't fit the document.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let malformed = |error: String| PatchError::Malformed(format!("error decoding patch: {error}"));
    if let Some(error) = golang::unmarshal_error(patch, Value::is_array, "[]handlers.jsonPatchOp") {
        return Err(malformed(error));
    }
    let operations: Vec<Operation> =
        serde_json::from_slice(patch).map_err(|error| malformed(format!("json: {error}")))?;
    if operations.len() > MOST_OPERATIONS {
        return Err(PatchError::Malformed(format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = document.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut patched, operation, &mut copied).map_err(PatchError::Unprocessable)?;
    }
    Ok(patched)
}

fn apply(document: &mut Value, operation: Operation, copied: &mut usize) -> Result<(), String> {
    let path = operation.path.ok_or("operation missing path field: missing value")?;
    let from = || operation.from.ok_or("operation missing from field: missing value");
    match operation.op.as_str() {
        "add" => add(document, &path, operation.value.unwrap_or(Value::Null), "add"),
        "remove" => remove(document, &path, "remove").map(drop),
        "replace" => {
            let value = operation.value.unwrap_or(Value::Null);
            match get_mut(document, &path, "replace")? {
                Some(place) => *place = value,
                // That library replaces a missing member too, by adding it.
                None => add(document, &path, value, "replace")?,
            }
            Ok(())
        }
        "move" => {
            let from = from()?;
            if path != from && path.starts_with(&format!("{from}/")) {
                return Err(format!("move operation does not apply: {path} is inside of {from}: missing value"));
            }
            let value = remove(document, &from, "move")?;
            add(document, &path, value, "move")
        }
        "copy" => {
            let from = from()?;
            // To that library a missing member is null.
            let value = get_mut(document, &from, "copy")?.cloned().unwrap_or_default();
            *copied += value.to_string().len();
            if *copied > MOST_COPIED_BYTES {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, \
                     exceeding the limit {MOST_COPIED_BYTES}"
                ));
            }
            add(document, &path, value, "copy")
        }
        "test" => {
            let wanted = operation.value.unwrap_or(Value::Null);
            // To upstream a missing member equals null.
            let held = get_mut(document, &path, "test")?.cloned().unwrap_or(Value::Null);
            if held == wanted { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn add(document: &mut Value, path: &str, value: Value, operation: &str) -> Result<(), String> {
    let Some((parent, key)) = split(path)? else {
        *document = value;
        return Ok(());
    };
    match container(document, parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key, value);
        }
        Some(Value::Array(items)) => {
            let index = if key == "-" { items.len() } else { index_of(&key, path, items.len() + 1)? };
            items.insert(index, value);
        }
        _ => return Err(missing_path(operation, path)),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str, operation: &str) -> Result<Value, String> {
    let Some((parent, key)) = split(path)? else {
        return Err(missing_path(operation, path));
    };
    match container(document, parent) {
        Some(Value::Object(fields)) => fields.remove(&key).ok_or_else(|| {
            format!("error in {operation} for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }),
        Some(Value::Array(items)) => {
            let index = index_of(&key, path, items.len())?;
            Ok(items.remove(index))
        }
        _ => Err(missing_path(operation, path)),
    }
}

/// The value at `path`; `None` if only its last step is missing.
fn get_mut<'a>(document: &'a mut Value, path: &str, operation: &str) -> Result<Option<&'a mut Value>, String> {
    let Some((parent, key)) = split(path)? else { return Ok(Some(document)) };
    match container(document, parent) {
        Some(Value::Object(fields)) => Ok(fields.get_mut(&key)),
        Some(Value::Array(items)) => {
            let index = index_of(&key, path, items.len())?;
            Ok(items.get_mut(index))
        }
        _ => Err(missing_path(operation, path)),
    }
}

fn missing_path(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: \"{path}\": missing value")
}

/// Parent pointer and last step, unescaped; `None` for the whole document.
fn split(path: &str) -> Result<Option<(&str, String)>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    match path.rsplit_once('/') {
        Some((parent, key)) if path.starts_with('/') => Ok(Some((parent, key.replace("~1", "/").replace("~0", "~")))),
        _ => Err(format!("path {path:?} does not begin with '/': missing value")),
    }
}

fn container<'a>(document: &'a mut Value, pointer: &str) -> Option<&'a mut Value> {
    document.pointer_mut(pointer)
}

/// An index below `end`. Negative ones count from the end, as that library still lets them.
fn index_of(key: &str, path: &str, end: usize) -> Result<usize, String> {
    let invalid = || format!("Unable to access invalid index: {key} of {path}: invalid index referenced");
    let index: i64 = key.parse().map_err(|_| invalid())?;
    let length = i64::try_from(end).map_err(|_| invalid())?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).ok().filter(|index| *index < end).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(document: &Value, patch: &Value) -> Result<Value, PatchError> {
        json_patch(document, &serde_json::to_vec(patch).expect("a JSON value"))
    }

    #[test]
    fn examples_of_rfc_6902() {
        let cases = [
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                json!({"baz": "qux", "foo": "bar"}),
            ),
            (
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (json!({"baz": "qux", "foo": "bar"}), json!([{"op": "remove", "path": "/baz"}]), json!({"foo": "bar"})),
            (json!({"foo": ["a", "b", "c"]}), json!([{"op": "remove", "path": "/foo/1"}]), json!({"foo": ["a", "c"]})),
            (json!({"baz": "qux"}), json!([{"op": "replace", "path": "/baz", "value": "boo"}]), json!({"baz": "boo"})),
            (
                json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
                json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
                json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
            ),
            (
                json!({"foo": ["all", "grass", "cows", "eat"]}),
                json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
                json!({"foo": ["all", "cows", "eat", "grass"]}),
            ),
            (
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
                json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            ),
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/child", "value": {"a": {}}}]),
                json!({"foo": "bar", "child": {"a": {}}}),
            ),
            (
                json!({"foo": ["bar"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["abc"]}]),
                json!({"foo": ["bar", ["abc"]]}),
            ),
            (
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                json!({"/": 9, "~1": 10}),
            ),
            (
                json!({"a": {"b": 1}}),
                json!([{"op": "copy", "from": "/a/b", "path": "/c"}]),
                json!({"a": {"b": 1}, "c": 1}),
            ),
            (json!({"a": 1}), json!([{"op": "add", "path": "/a", "value": null}]), json!({"a": null})),
            // Not of the RFC, but what upstream's library makes of missing members.
            (json!({"a": 1}), json!([{"op": "replace", "path": "/b", "value": 2}]), json!({"a": 1, "b": 2})),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/c", "path": "/b"}]), json!({"a": 1, "b": null})),
        ];
        for (document, patch, expected) in cases {
            assert_eq!(patched(&document, &patch), Ok(expected), "{document} with {patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let cases = [
            (json!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed: test failed"),
            (
                json!([{"op": "remove", "path": "/x"}]),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/x/y", "value": 1}]),
                "replace operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!([{"op": "add", "path": "/x/y", "value": 1}]),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!([{"op": "add", "path": "/l/7", "value": 1}]),
                "Unable to access invalid index: 7 of /l/7: invalid index referenced",
            ),
            (json!([{"op": "spam", "path": "/a"}]), "Unexpected kind: spam"),
        ];
        for (patch, expected) in cases {
            assert_eq!(patched(&json!({"a": 1, "l": []}), &patch), Err(PatchError::Unprocessable(expected.into())));
        }
        for patch in ["{}", "[1]", "x", ""] {
            assert!(matches!(json_patch(&json!({}), patch.as_bytes()), Err(PatchError::Malformed(_))), "{patch}");
        }
    }

    #[test]
    fn copies_cannot_blow_a_document_up() {
        let document = json!({"a": ["x".repeat(1024)]});
        let operations: Vec<Value> = (0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        assert!(matches!(patched(&document, &Value::Array(operations)), Err(PatchError::Unprocessable(_))));
    }
}
