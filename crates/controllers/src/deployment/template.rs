//! When two pod templates are one, and the short name of a template.

use serde_json::{Map, Value};

/// Tells the ReplicaSets of a Deployment, and their pods, apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Fields that are maps in upstream's types: an empty one is none. Other empty objects say something (`emptyDir: {}`).
const MAPS: &[&str] = &["annotations", "labels", "matchLabels", "nodeSelector", "limits", "requests", "overhead"];
/// 32-bit FNV-1a.
const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;
/// No vowels and nothing that looks like one: a name that says nothing.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Equal but for the hash label (upstream's `EqualIgnoreHash`), and for empty lists and maps, which clients leave out.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    comparable(a) == comparable(b)
}

fn comparable(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    drop_empty(&mut template);
    template
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => !(inner.is_empty() && MAPS.contains(&name.as_str())),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// `template` with the hash as a label.
pub(super) fn with_hash(template: &Value, hash: &str) -> Value {
    let mut template = template.clone();
    let mut at = &mut template;
    for field in ["metadata", "labels"] {
        if !at[field].is_object() {
            at[field] = Value::Object(Map::new());
        }
        at = &mut at[field];
    }
    at[HASH_LABEL] = hash.into();
    template
}

/// Upstream's `ComputeHash`, over JSON where upstream has Go's own notation: another hash for the same template, as
/// another version of upstream has one, too. `collisions` leads to another one when the first is taken.
pub(super) fn hash(template: &Value, collisions: Option<i32>) -> String {
    let mut hash = fnv(OFFSET, template.to_string().as_bytes());
    if let Some(collisions) = collisions {
        hash = fnv(hash, &i64::from(collisions).to_le_bytes());
    }
    let safe = |digit: u8| ALPHABET[usize::from(digit) % ALPHABET.len()] as char;
    hash.to_string().bytes().map(safe).collect()
}

fn fnv(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Upstream's `TestEqualIgnoreHash`, and what clients that leave out empty fields send.
    #[test]
    fn templates_differ_by_all_but_the_hash() {
        let template = |labels: Value, spec: Value| json!({ "metadata": { "labels": labels }, "spec": spec });
        let plain = json!({ "containers": [{ "name": "c" }] });
        let cases = [
            (json!({ "a": "b", HASH_LABEL: "1" }), json!({ "a": "b", HASH_LABEL: "2" }), plain.clone(), true),
            (json!({ "a": "b", HASH_LABEL: "1" }), json!({ "a": "b" }), plain.clone(), true),
            (json!({ "a": "b", HASH_LABEL: "1" }), json!({ "c": "d", HASH_LABEL: "1" }), plain.clone(), false),
            (json!({ "a": "b" }), json!({ "a": "b", "c": "d" }), plain.clone(), false),
            (json!({}), json!({}), json!({ "containers": [{ "name": "other" }] }), false),
            (json!({}), json!({}), json!({ "containers": [{ "name": "c", "args": [] }], "nodeSelector": {} }), true),
            (json!({}), json!({}), json!({ "containers": [{ "name": "c" }], "securityContext": {} }), false),
        ];
        for (labels_a, labels_b, spec_b, expected) in cases {
            let (a, b) = (template(labels_a, plain.clone()), template(labels_b, spec_b));
            assert_eq!(is_same(&a, &b), expected, "{a} {b}");
            assert_eq!(is_same(&b, &a), expected, "{b} {a}");
        }
    }

    #[test]
    fn fnv_is_the_published_one() {
        for (text, expected) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fnv(OFFSET, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_hash_is_a_name_of_upstreams_alphabet() {
        let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "x": 1, "y": [true, "z"] } });
        let first = hash(&template, None);
        // Digits 0 to 9 become these.
        assert!(first.bytes().all(|letter| b"456789bcdf".contains(&letter)), "{first}");
        let other = [hash(&template, Some(0)), hash(&template, Some(1)), hash(&json!({}), None)];
        assert!(!other.contains(&first) && other[0] != other[1], "{first} {other:?}");
    }

    #[test]
    fn the_hash_becomes_a_label() {
        let cases = [
            (json!({ "spec": {} }), json!({ "spec": {}, "metadata": { "labels": { HASH_LABEL: "h" } } })),
            (
                json!({ "metadata": { "labels": { "a": "b" } } }),
                json!({ "metadata": { "labels": { "a": "b", HASH_LABEL: "h" } } }),
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(with_hash(&template, "h"), expected);
        }
    }
}
