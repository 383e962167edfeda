//! OpenAPI v2 as protobuf: gnostic's `openapi.v2.Document`, the only form in which client-go asks for it. kubectl reads
//! it to validate lists, and whatever else its version looks up there. Field numbers are gnostic's.

use serde_json::{Map, Value};

/// What clients are told to have got, and may ask for.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients ask for that use the form's older name, which isn't a well-formed media type.
pub const OLD_NAME: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// `Document` with version, info and definitions.
pub(super) fn document(swagger: &str, info: &Value, definitions: &Map<String, Value>) -> Vec<u8> {
    let mut document = Message::default();
    document.text(1, swagger);
    document.message(2, |message| {
        message.text(1, text(info, "title"));
        message.text(2, text(info, "version"));
    });
    document.message(8, |_| {});
    document.message(9, |message| named_schemas(message, definitions));
    document.0
}

/// `Definitions` and `Properties` alike: `repeated NamedSchema additional_properties = 1`.
fn named_schemas(message: &mut Message, schemas: &Map<String, Value>) {
    for (name, value) in schemas {
        message.message(1, |named| {
            named.text(1, name);
            named.message(2, |inner| schema(inner, value));
        });
    }
}

fn schema(message: &mut Message, value: &Value) {
    let Some(fields) = value.as_object() else { return };
    if let Some(reference) = reference(fields) {
        message.text(1, reference);
    }
    message.text(2, text(value, "format"));
    message.text(4, text(value, "description"));
    if let Some(default) = fields.get("default") {
        message.message(5, |any| any.text(2, &default.to_string()));
    }
    for required in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
        message.text(19, required.as_str().unwrap_or_default());
    }
    match fields.get("additionalProperties") {
        Some(Value::Bool(any)) => message.message(21, |item| item.number(2, u64::from(*any))),
        Some(value) => message.message(21, |item| item.message(1, |inner| schema(inner, value))),
        None => {}
    }
    if let Some(kind) = fields.get("type").and_then(Value::as_str) {
        message.message(22, |item| item.text(1, kind));
    }
    if let Some(items) = fields.get("items") {
        message.message(23, |item| item.message(1, |inner| schema(inner, items)));
    }
    if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
        message.message(25, |inner| named_schemas(inner, properties));
    }
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        message.message(31, |named| {
            named.text(1, name);
            // JSON is YAML.
            named.message(2, |any| any.text(2, &value.to_string()));
        });
    }
}

/// v3 wraps a reference that has a description or a default into `allOf`; v2 has all of them side by side.
fn reference(fields: &Map<String, Value>) -> Option<&str> {
    let wrapped = || match fields.get("allOf")?.as_array()?.as_slice() {
        [only] => only.get("$ref"),
        _ => None,
    };
    fields.get("$ref").or_else(wrapped)?.as_str()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// As proto3 has it, an empty text isn't there.
    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Bytes by the protobuf encoding's rules, numbers by gnostic's `OpenAPIv2.proto`.
    #[test]
    fn schemas_are_written_as_gnostic_numbers_them() {
        let cases: [(Value, &[u8]); 5] = [
            (json!({ "$ref": "#/d/A" }), b"\x0a\x05#/d/A"),
            (json!({ "allOf": [{ "$ref": "#/d/A" }], "default": {} }), b"\x0a\x05#/d/A\x2a\x04\x12\x02{}"),
            (json!({ "required": ["a"], "type": "object" }), b"\x9a\x01\x01a\xb2\x01\x08\x0a\x06object"),
            (json!({ "items": { "format": "f" } }), b"\xba\x01\x05\x0a\x03\x12\x01f"),
            (json!({ "x-a": 1 }), b"\xfa\x01\x0a\x0a\x03x-a\x12\x03\x12\x011"),
        ];
        for (value, expected) in cases {
            let mut message = Message::default();
            schema(&mut message, &value);
            assert_eq!(message.0, expected, "{value}");
        }
    }
}
