//! How objects are written down: JSON with `apiVersion`, `kind` and `metadata` first and without `resourceVersion`,
//! so that the revision, which the store gives, is put in with one copy when a value is read.

use bytes::Bytes;
use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";
const REVISION: &[u8] = b"\"resourceVersion\":\"";

/// The bytes to store. Leaves out `metadata.resourceVersion`.
pub fn encode(object: &Value) -> Vec<u8> {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"apiVersion\":");
    write(&mut out, fields.get("apiVersion").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"kind\":");
    write(&mut out, fields.get("kind").unwrap_or(&Value::Null));
    out.push(b',');
    out.extend_from_slice(METADATA);
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    for (index, (name, value)) in metadata.iter().filter(|(name, _)| *name != "resourceVersion").enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_field(&mut out, name, value);
    }
    out.push(b'}');
    for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"))
    {
        out.push(b',');
        write_field(&mut out, name, value);
    }
    out.push(b'}');
    out
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &Value) {
    // A string as a JSON key needs the same quoting as a string as a value.
    serde_json::to_writer(&mut *out, name).expect("a string encodes into memory");
    out.push(b':');
    write(out, value);
}

fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON value encodes into memory");
}

/// Stored or served bytes with `metadata.resourceVersion` set to `revision`; `None` if `json` wasn't made by
/// [`encode`].
pub fn stamp(json: &[u8], revision: u64) -> Option<Bytes> {
    // `apiVersion` and `kind` come before and can't hold quotes, so the first hit is the right one.
    let start = json.windows(METADATA.len()).take(512).position(|w| w == METADATA)? + METADATA.len();
    let mut tail = &json[start..];
    if let Some(rest) = tail.strip_prefix(REVISION) {
        let end = rest.iter().position(|b| *b == b'"')? + 1;
        tail = &rest[end..];
        tail = tail.strip_prefix(b",").unwrap_or(tail);
    }
    let digits = revision.to_string();
    let mut out = Vec::with_capacity(start + REVISION.len() + digits.len() + 2 + tail.len());
    out.extend_from_slice(&json[..start]);
    out.extend_from_slice(REVISION);
    out.extend_from_slice(digits.as_bytes());
    out.push(b'"');
    if !tail.starts_with(b"}") {
        out.push(b',');
    }
    out.extend_from_slice(tail);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stamped_object_is_the_object_with_its_revision() {
        let cases = [
            json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "\"metadata\":{"}, "metadata": {"name": "x"}}),
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}}),
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "4", "uid": "u"}}),
        ];
        for mut object in cases {
            let stored = encode(&object);
            for revision in [7, 1234567] {
                let once = stamp(&stored, revision).expect("stored bytes");
                let twice = stamp(&once, revision + 1).expect("stamped bytes");
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                assert_eq!(serde_json::from_slice::<Value>(&once).expect("JSON"), object);
                object["metadata"]["resourceVersion"] = (revision + 1).to_string().into();
                assert_eq!(serde_json::from_slice::<Value>(&twice).expect("JSON"), object);
            }
        }
    }
}
