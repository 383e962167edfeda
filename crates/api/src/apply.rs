//! Server-side apply: who manages which field of an object, what an applied configuration changes, and where it
//! conflicts (sigs.k8s.io/structured-merge-diff and `k8s.io/apimachinery/pkg/util/managedfields`).
//!
//! Fields are tracked from an object's first apply on; objects that are never applied carry no `managedFields`.

mod set;
mod walk;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::field::quoted;
use crate::kind::Kind;
use crate::schema;
use set::{Set, field_step};
use walk::Place;

/// Who manages the fields that an object had before anybody applied to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, through which subresource (empty for the object itself), and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    pub manager: &'a str,
    pub subresource: &'a str,
    pub now: Timestamp,
}

/// Why a configuration can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 400 `BadRequest`.
    #[error("{0}")]
    Malformed(String),
    /// 409 `Conflict`, with a cause for each.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

/// A field that somebody else manages and that the configuration would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As printed: `"kubectl-edit" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
}

impl Conflict {
    /// Message of the cause of type `FieldManagerConflict`.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message(), only.path);
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::with_capacity(managers.len() + conflicts.len());
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let of_manager = conflicts.iter().filter(|conflict| conflict.manager == manager);
        lines.extend(of_manager.map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The object that results from applying `configuration` (decoded and checked) to `live`, `managedFields` included.
/// With `force` the writer takes over the fields that it conflicts about.
///
/// # Errors
/// If the configuration names managed fields or an item of a list twice, or if there are conflicts without `force`.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    configuration: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if configuration.pointer("/metadata/managedFields").is_some() {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".into()));
    }
    let root = Place::root(schema::of(kind));
    if let Some(duplicate) = walk::duplicate_in(configuration, &root) {
        return Err(ApplyError::Malformed(format!("failed to create typed patch object: {duplicate}")));
    }
    let api_version = api_version(kind);
    let applied = stripped(kind, walk::fields_of(configuration, &root), writer.subresource);
    let mut entries = live.map(decode).unwrap_or_default();
    if let Some(live) = live.filter(|_| entries.is_empty()) {
        let held = stripped(kind, walk::fields_of(live, &root), "");
        entries.push(Entry::new(BEFORE_FIRST_APPLY, Operation::Update, &api_version, "", held, writer.now));
    }
    let own = entries.iter().position(|entry| entry.is(writer, Operation::Apply, &api_version));
    let own = own.map(|at| entries.remove(at));

    let empty = json!({});
    let live = live.unwrap_or(&empty);
    let mut merged = walk::merge(live, configuration, &root);
    if let Some(last) = &own {
        let owned = entries.iter().fold(applied.clone(), |all, entry| all.union(&entry.fields));
        let gone = last.fields.difference(&applied);
        walk::remove(&mut merged, &root, &gone, &owned);
    }
    let changes = walk::compare(live, &merged, &root);
    let mut conflicts = Vec::new();
    for entry in &mut entries {
        let disputed = entry.fields.intersection(&changes.changed);
        let manager = entry.shown();
        conflicts.extend(disputed.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        entry.fields = entry.fields.difference(&disputed).difference(&changes.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    // The time is that of the last change: an apply that changes nothing leaves the object as it was.
    let time = own.as_ref().filter(|last| last.fields == applied && live == &merged).map(|last| last.time.clone());
    let mut entry = Entry::new(writer.manager, Operation::Apply, &api_version, writer.subresource, applied, writer.now);
    entry.time = time.unwrap_or(entry.time);
    entries.push(entry);
    encode(entries, &mut merged);
    Ok(merged)
}

/// Brings `new`'s managed fields up to date after an update or a patch by `writer`: what it changed is its own, what it
/// removed is nobody's. Objects that were never applied stay without.
pub fn track(kind: &Kind, old: &Value, new: &mut Value, writer: &Writer<'_>) {
    // A request may rewrite the list itself, an empty one wiping it, but not through a subresource.
    let rewritten = new.pointer("/metadata/managedFields").is_some_and(|list| !list.is_null());
    let mut entries = if rewritten && writer.subresource.is_empty() { decode(new) } else { decode(old) };
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if entries.is_empty() {
        return;
    }
    let api_version = api_version(kind);
    let changes = walk::compare(old, new, &Place::root(schema::of(kind)));
    let changed = stripped(kind, changes.changed, writer.subresource);
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&changes.removed);
        if !entry.is(writer, Operation::Update, &api_version) {
            entry.fields = entry.fields.difference(&changed);
        }
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|entry| entry.is(writer, Operation::Update, &api_version)) {
            Some(entry) => {
                entry.fields = entry.fields.union(&changed);
                entry.time = written(writer.now);
            }
            None => {
                let Writer { manager, subresource, now } = *writer;
                entries.push(Entry::new(manager, Operation::Update, &api_version, subresource, changed, now));
            }
        }
    }
    encode(entries, new);
}

fn api_version(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.version.to_owned() } else { format!("{}/{}", kind.group, kind.version) }
}

/// Without what no one manages, and without what this way of writing leaves alone.
fn stripped(kind: &Kind, mut fields: Set, subresource: &str) -> Set {
    for name in ["apiVersion", "kind"] {
        fields.children.remove(&field_step(name));
    }
    if subresource == "status" {
        fields.children.retain(|step, _| step == "f:status");
    } else if kind.subresources.iter().any(|other| other.name == "status") {
        fields.children.remove("f:status");
    }
    if let Some(mut metadata) = fields.children.remove("f:metadata") {
        metadata.member = false;
        let server_owned = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ];
        for name in server_owned {
            metadata.children.remove(&field_step(name));
        }
        fields.insert("f:metadata".into(), metadata);
    }
    fields.member = false;
    fields
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
struct Entry {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    /// RFC 3339, or empty.
    time: String,
    fields: Set,
}

impl Entry {
    fn new(
        manager: &str,
        operation: Operation,
        api_version: &str,
        subresource: &str,
        fields: Set,
        now: Timestamp,
    ) -> Self {
        Self {
            manager: manager.into(),
            operation,
            api_version: api_version.into(),
            subresource: subresource.into(),
            time: written(now),
            fields,
        }
    }

    /// Whether this entry is the writer's. Appliers keep theirs whichever version they write.
    fn is(&self, writer: &Writer<'_>, operation: Operation, api_version: &str) -> bool {
        self.operation == operation
            && self.manager == writer.manager
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == api_version)
    }

    fn shown(&self) -> String {
        let mut shown = quoted(&self.manager);
        if !self.subresource.is_empty() {
            shown = format!("{shown} with subresource {}", quoted(&self.subresource));
        }
        match self.operation {
            Operation::Apply => shown,
            Operation::Update => format!("{shown} using {}", self.api_version),
        }
    }
}

fn written(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Entries that aren't well-formed are left out.
fn decode(object: &Value) -> Vec<Entry> {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let operation = match entry.get("operation")?.as_str()? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            Some(Entry {
                manager: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: Set::decode(entry.get("fieldsV1")?),
            })
        })
        .collect()
}

fn encode(mut entries: Vec<Entry>, object: &mut Value) {
    entries.retain(|entry| !entry.fields.is_empty() || entry.operation == Operation::Apply);
    let order = |entry: &Entry| {
        let Entry { operation, time, manager, api_version, subresource, .. } = entry;
        (*operation, time.clone(), manager.clone(), api_version.clone(), subresource.clone())
    };
    entries.sort_by_cached_key(order);
    let list = entries.into_iter().map(|entry| {
        let mut fields = Map::new();
        fields.insert("manager".into(), entry.manager.into());
        fields.insert("operation".into(), format!("{:?}", entry.operation).into());
        fields.insert("apiVersion".into(), entry.api_version.into());
        if !entry.time.is_empty() {
            fields.insert("time".into(), entry.time.into());
        }
        fields.insert("fieldsType".into(), "FieldsV1".into());
        fields.insert("fieldsV1".into(), entry.fields.encode());
        if !entry.subresource.is_empty() {
            fields.insert("subresource".into(), entry.subresource.into());
        }
        Value::Object(fields)
    });
    let list: Vec<Value> = list.collect();
    let metadata = object.as_object_mut().map(|object| object.entry("metadata").or_insert_with(|| json!({})));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        if list.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".into(), list.into());
        }
    }
}

#[cfg(test)]
mod tests;
