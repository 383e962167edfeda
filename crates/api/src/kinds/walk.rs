//! Walking values: reading by pointer, filling in what is absent.
//!
//! Shapes were checked against the kind's schema before any of this runs; a value of another type is left alone.

use serde_json::{Map, Value};

/// The text at a JSON pointer; empty when it's absent, as Go's zero value is.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The number at a JSON pointer, 0 when it's absent.
pub fn count(value: &Value, pointer: &str) -> i64 {
    int(value, pointer).unwrap_or_default()
}

pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The list at a JSON pointer, empty when it's absent.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the map at a JSON pointer, none when it's absent.
pub fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The value at a JSON pointer if it is there and not null.
pub fn some<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

/// What Go would hold as a zero value: null, `""`, 0, false, and lists and maps without entries.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// A field's object, made when it's absent. `None` if the parent or the field is of another type.
pub fn sub<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let field = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if field.is_null() {
        *field = Value::Object(Map::new());
    }
    field.is_object().then_some(field)
}

/// A field's object, if it is there.
pub fn field<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    parent.get_mut(key).filter(|field| field.is_object())
}

/// The members of a field's list; none when it's absent.
pub fn each<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Sets a field that is absent, null or the empty string.
pub fn fill(parent: &mut Value, key: &str, value: impl Into<Value>) {
    fill_if(parent, key, value, |held| held.is_null() || held.as_str() == Some(""));
}

/// Sets a field that is absent or zero: for what is no pointer in upstream's types.
pub fn fill_zero(parent: &mut Value, key: &str, value: impl Into<Value>) {
    fill_if(parent, key, value, is_zero);
}

fn fill_if(parent: &mut Value, key: &str, value: impl Into<Value>, unset: fn(&Value) -> bool) {
    let Some(fields) = parent.as_object_mut() else { return };
    let held = fields.entry(key).or_insert(Value::Null);
    if unset(held) {
        *held = value.into();
    }
}

/// Sets a field, whatever it held.
pub fn put(parent: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = parent.as_object_mut() {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Removes a field.
pub fn drop_field(parent: &mut Value, key: &str) {
    if let Some(fields) = parent.as_object_mut() {
        fields.remove(key);
    }
}

/// A copy of an object without some of its fields, for comparing the rest.
pub fn without(value: &Value, keys: &[&str]) -> Value {
    let mut copy = value.clone();
    for key in keys {
        drop_field(&mut copy, key);
    }
    copy
}
