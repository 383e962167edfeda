//! What happened to an object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use crate::columns::age;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::check::required;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{count, some, text};

pub static EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    verbs: verbs::ALL,
    columns: COLUMNS,
    row,
    validate,
    selectable,
    selectable_names: SELECTABLE,
    schema: schema_of::<Event>,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};

pub const COLUMNS: &[Column] = &[
    Column::text("Last Seen", "Time since it last happened."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "Why, in a word."),
    Column::text("Object", "What it happened to."),
    Column::text("Subobject", "Which part of that.").wide(),
    Column::text("Source", "Who says so.").wide(),
    Column::text("Message", "What happened."),
    Column::text("First Seen", "Time since it first happened.").wide(),
    Column::text("Count", "How often it happened.").wide(),
    Column { priority: 1, ..Column::NAME },
];

pub fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let since = |pointer: &str| some(event, pointer).map(|time| age(time.as_str(), now));
    let first = since("/firstTimestamp").unwrap_or_else(|| age(Some(text(event, "/eventTime")), now));
    let mut last = since("/lastTimestamp").unwrap_or_else(|| first.clone());
    let mut times = count(event, "/count").max(1);
    if some(event, "/series").is_some() {
        last = age(Some(text(event, "/series/lastObservedTime")), now);
        times = count(event, "/series/count");
    }
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let name = text(event, "/involvedObject/name");
    vec![
        last.into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() },
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        first.into(),
        times.into(),
        text(event, "/metadata/name").into(),
    ]
}

/// The component, and its host or instance behind a comma.
fn source(event: &Value) -> String {
    let or = |first: &str, second: &str| match text(event, first) {
        "" => text(event, second).to_owned(),
        found => found.to_owned(),
    };
    let component = or("/source/component", "/reportingComponent");
    let host = or("/source/host", "/reportingInstance");
    if host.is_empty() { component } else { format!("{component}, {host}") }
}

fn validate(event: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let namespace = text(event, "/metadata/namespace");
    let about = text(event, "/involvedObject/namespace");
    // Events about what has no namespace stand in `default`.
    let fits = about == namespace || (about.is_empty() && namespace == "default");
    // Those of the newer sort may stand in `kube-system` too, as upstream's recorder puts some.
    let newer = some(event, "/eventTime").is_some();
    let of_the_system = newer && about.is_empty() && namespace == "kube-system";
    if !fits && !of_the_system {
        errors.push(FieldError::invalid("involvedObject.namespace", &about.into(), "does not match event.namespace"));
    }
    if newer {
        required(&mut errors, "reportingController", text(event, "/reportingComponent"));
        required(&mut errors, "reportingInstance", text(event, "/reportingInstance"));
        required(&mut errors, "action", text(event, "/action"));
        required(&mut errors, "reason", text(event, "/reason"));
    }
    errors
}

const SELECTABLE: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Under the core group's names and under those of `events.k8s.io`, whose events are stored as these.
fn selectable(event: &Value) -> Vec<(&'static str, String)> {
    let about = |key: &str| text(event, &format!("/involvedObject/{key}")).to_owned();
    let reporter = text(event, "/reportingComponent").to_owned();
    let source = match text(event, "/source/component") {
        "" => reporter.clone(),
        component => component.to_owned(),
    };
    let mut fields = vec![
        ("reason", text(event, "/reason").to_owned()),
        ("reportingComponent", reporter.clone()),
        ("reportingController", reporter),
        ("source", source),
        ("type", text(event, "/type").to_owned()),
    ];
    for (core, newer, key) in [
        ("involvedObject.apiVersion", "regarding.apiVersion", "apiVersion"),
        ("involvedObject.fieldPath", "regarding.fieldPath", "fieldPath"),
        ("involvedObject.kind", "regarding.kind", "kind"),
        ("involvedObject.name", "regarding.name", "name"),
        ("involvedObject.namespace", "regarding.namespace", "namespace"),
        ("involvedObject.resourceVersion", "regarding.resourceVersion", "resourceVersion"),
        ("involvedObject.uid", "regarding.uid", "uid"),
    ] {
        fields.extend([(core, about(key)), (newer, about(key))]);
    }
    fields
}
