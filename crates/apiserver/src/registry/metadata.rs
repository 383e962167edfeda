//! What the server itself keeps in `metadata`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::status::Status;

/// Now, as objects bear times: whole seconds, UTC.
pub fn now() -> String {
    seconds(Timestamp::now())
}

pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metadata` of an object, made if it isn't there.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let fields = object.as_object_mut().expect("made above");
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().expect("made above")
}

pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let metadata = of(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Counts the changes of all but `metadata` and `status`.
pub fn set_generation(object: &mut Value, old: Option<&Value>) {
    let number = |o: &Value| o.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let generation = match old {
        None => 1,
        Some(old) if same_but_metadata_and_status(object, old) => number(old),
        Some(old) => number(old) + 1,
    };
    if generation > 0 {
        of(object).insert("generation".into(), generation.into());
    }
}

/// True if at most the managed fields differ.
pub fn same_but_managers(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else { return a == b };
    let metadata = |fields: &Map<String, Value>| fields.get("metadata").and_then(Value::as_object).cloned();
    let without = |mut fields: Map<String, Value>| {
        fields.remove("managedFields");
        fields
    };
    let rest = |(name, _): &(&String, &Value)| *name != "metadata";
    metadata(x).map(without) == metadata(y).map(without) && x.iter().filter(rest).eq(y.iter().filter(rest))
}

fn same_but_metadata_and_status(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let counts = |name: &str| !matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    a.iter().filter(|(name, _)| counts(name)).eq(b.iter().filter(|(name, _)| counts(name)))
}

/// Puts an object where its request's path says; a namespace that it needn't have is dropped.
///
/// # Errors
/// 400 if it says otherwise.
pub fn place(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let given = text(object, "namespace");
    if !given.is_empty() && !namespace.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    let fields = of(object);
    if namespace.is_empty() {
        fields.remove("namespace");
    } else {
        fields.insert("namespace".into(), namespace.into());
    }
    Ok(())
}

/// What a client can't set on an object that it makes.
pub fn begin(object: &mut Value, uid: String, applies: bool) {
    let metadata = of(object);
    if !applies {
        // Fields are tracked from an object's first apply on.
        metadata.remove("managedFields");
    }
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), now().into());
}

/// What a client can't change; the same that upstream fills in where a client left it out.
pub fn carry_over(object: &mut Value, old: &Value) {
    let empty = Map::new();
    let before = old.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let metadata = of(object);
    metadata.remove("selfLink");
    for field in ["uid", "creationTimestamp", "namespace"] {
        let given = metadata.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if let (false, Some(value)) = (given, before.get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match before.get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn generation_counts_changes_of_the_spec_only() {
        let old = json!({"metadata": {"generation": 3, "labels": {"a": "b"}}, "spec": {"x": 1}, "status": {"y": 1}});
        let cases = [
            (json!({"metadata": {"labels": {"a": "c"}}, "spec": {"x": 1}, "status": {"y": 2}}), 3),
            (json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 2}, "status": {"y": 1}}), 4),
            (json!({"metadata": {}, "status": {"y": 1}}), 4),
        ];
        for (mut new, expected) in cases {
            set_generation(&mut new, Some(&old));
            assert_eq!(new["metadata"]["generation"], expected);
        }
        let mut new = json!({"spec": {}});
        set_generation(&mut new, None);
        assert_eq!(new["metadata"]["generation"], 1);
    }
}
