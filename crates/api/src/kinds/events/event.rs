//! The core group's events in their newer shape.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use crate::field::FieldErrors;
use crate::kind::{Kind, StoredAs};
use crate::kinds::core::{EVENT as CORE, event};
use crate::kinds::part::{schema_of, verbs};

pub static EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    verbs: verbs::ALL,
    columns: event::COLUMNS,
    row,
    validate,
    selectable,
    selectable_names: SELECTABLE,
    stored_as: Some(&StoredAs { kind: &CORE, to_stored, from_stored }),
    schema: schema_of::<Event>,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};

/// Names of the same fields here and in the core group's events.
const FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn to_stored(object: &mut Value) {
    rename(object, "v1", FIELDS.iter().copied());
}

fn from_stored(object: &mut Value) {
    rename(object, "events.k8s.io/v1", FIELDS.iter().map(|(here, core)| (*core, *here)));
}

fn rename(object: &mut Value, version: &str, fields: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(held) = object.as_object_mut() else { return };
    held.insert("apiVersion".into(), version.into());
    for (from, to) in fields {
        if let Some(value) = held.remove(from) {
            held.insert(to.into(), value);
        }
    }
}

fn as_core(object: &Value) -> Value {
    let mut core = object.clone();
    to_stored(&mut core);
    core
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    event::row(&as_core(object), now)
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    (CORE.validate)(&as_core(object), old.map(as_core).as_ref())
}

const SELECTABLE: &[&str] = &[
    "regarding.apiVersion",
    "regarding.fieldPath",
    "regarding.kind",
    "regarding.name",
    "regarding.namespace",
    "regarding.resourceVersion",
    "regarding.uid",
    "reason",
    "reportingController",
    "source",
    "type",
];

fn selectable(object: &Value) -> Vec<(&'static str, String)> {
    (CORE.selectable)(&as_core(object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_go_both_ways() {
        let object = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
            "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "hello", "deprecatedCount": 2,
            "reportingController": "c", "reason": "R",
        });
        let mut core = object.clone();
        to_stored(&mut core);
        assert_eq!(
            core,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "message": "hello", "count": 2,
                "reportingComponent": "c", "reason": "R",
            })
        );
        from_stored(&mut core);
        assert_eq!(core, object);
        assert!(selectable(&object).contains(&("regarding.name", "p".to_owned())));
        assert!(selectable(&object).contains(&("reportingController", "c".to_owned())));
    }
}
