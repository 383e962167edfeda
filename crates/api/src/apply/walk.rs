//! Values taken apart as their types say: which parts of them are owned, merged, compared and removed one by one.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::set::{Set, field_step, key_step, value_step};
use crate::merge::{self, Merge};
use crate::schema::{Struct, Type};

/// Where a value stands: its type, and what its field says of how it merges.
#[derive(Clone, Copy)]
pub(super) struct Place {
    r#type: Type,
    merge: Option<&'static Merge>,
}

/// How a value comes apart.
enum Shape {
    /// Not at all: scalars and whatever is atomic.
    Whole,
    Fields(&'static Struct),
    Entries(&'static Type),
    /// A list whose items are told apart by these fields.
    Keyed(&'static Type, &'static [&'static str]),
    /// A list of scalars, each at most once.
    Unique(&'static Type),
}

/// One part: the step that leads to it, the part, and where it stands.
struct Part<'a> {
    step: String,
    value: &'a Value,
    place: Place,
}

impl Place {
    pub fn root(of: &'static Struct) -> Self {
        Self { r#type: Type::Struct(of), merge: None }
    }

    fn element(of: &Type) -> Self {
        Self { r#type: *of, merge: None }
    }

    fn shape(&self) -> Shape {
        let how = self.merge.map_or("", |merge| merge.list_type);
        match (&self.r#type, how) {
            (Type::Struct(_) | Type::Map(_), "atomic") => Shape::Whole,
            (Type::Struct(of), "granular") => Shape::Fields(of),
            (Type::Struct(of), _) if merge::is_atomic(of.name) => Shape::Whole,
            (Type::Struct(of), _) => Shape::Fields(of),
            (Type::Map(of), _) => Shape::Entries(of),
            (Type::List(of), "map") => Shape::Keyed(of, self.merge.map_or(&[], |merge| merge.map_keys)),
            (Type::List(of), "set") => Shape::Unique(of),
            _ => Shape::Whole,
        }
    }
}

/// The parts of a value in their order; `None` if it doesn't come apart.
fn parts<'a>(value: &'a Value, place: &Place) -> Option<Vec<Part<'a>>> {
    let parts = match (place.shape(), value) {
        (Shape::Fields(of), Value::Object(fields)) => {
            let known = fields.iter().filter_map(|(name, value)| Some((of.field(name)?, value)));
            let part = |(field, value): (&'static crate::schema::Field, &'a Value)| Part {
                step: field_step(field.name),
                value,
                place: Place { r#type: field.r#type, merge: field.merge },
            };
            known.map(part).collect()
        }
        (Shape::Entries(of), Value::Object(entries)) => {
            let part =
                |(name, value): (&String, &'a Value)| Part { step: field_step(name), value, place: Place::element(of) };
            entries.iter().map(part).collect()
        }
        (Shape::Keyed(of, keys), Value::Array(items)) => {
            let part = |value| Part { step: key_of(value, keys), value, place: Place::element(of) };
            items.iter().map(part).collect()
        }
        (Shape::Unique(of), Value::Array(items)) => {
            let part = |value| Part { step: value_step(value), value, place: Place::element(of) };
            items.iter().map(part).collect()
        }
        _ => return None,
    };
    Some(parts)
}

/// The step to an item of a keyed list. `protocol` is the one key that upstream's types default.
fn key_of(item: &Value, keys: &'static [&'static str]) -> String {
    let mut found = BTreeMap::new();
    for key in keys {
        match item.get(key) {
            Some(value) => found.insert(*key, value.clone()),
            None if *key == "protocol" => found.insert(*key, "TCP".into()),
            None => None,
        };
    }
    key_step(&found)
}

/// Every field that `value` sets.
pub(super) fn fields_of(value: &Value, place: &Place) -> Set {
    collect(value, place, false)
}

/// The same with the lists and maps that hold them, as upstream records what an update brings into being.
fn fields_and_containers_of(value: &Value, place: &Place) -> Set {
    collect(value, place, true)
}

fn collect(value: &Value, place: &Place, containers: bool) -> Set {
    let Some(parts) = parts(value, place).filter(|parts| !parts.is_empty()) else { return Set::leaf() };
    let member = containers && matches!(place.r#type, Type::Map(_) | Type::List(_));
    let mut set = Set { member, ..Set::default() };
    for part in parts {
        let mut below = collect(part.value, &part.place, containers);
        below.member |= matches!(place.r#type, Type::List(_));
        set.insert(part.step, below);
    }
    set
}

/// The first item that a keyed list or a set holds twice, as upstream prints it.
pub(super) fn duplicate_in(value: &Value, place: &Place) -> Option<String> {
    let shown = |step: String| {
        let only = Set { member: false, children: BTreeMap::from([(step, Set::leaf())]) };
        only.paths().pop().unwrap_or_default()
    };
    let mut seen = HashSet::new();
    for part in parts(value, place)? {
        if let Some(found) = duplicate_in(part.value, &part.place) {
            return Some(format!("{}{found}", shown(part.step)));
        }
        if matches!(place.r#type, Type::List(_)) && !seen.insert(part.step.clone()) {
            return Some(format!(": duplicate entries for key {}", shown(part.step)));
        }
    }
    None
}

/// What an object's change did to its fields.
#[derive(Default)]
pub(super) struct Changes {
    /// Added, or given another value.
    pub changed: Set,
    pub removed: Set,
}

pub(super) fn compare(old: &Value, new: &Value, place: &Place) -> Changes {
    if old == new {
        return Changes::default();
    }
    let (Some(before), Some(after)) = (parts(old, place), parts(new, place)) else {
        return Changes { changed: Set::leaf(), removed: Set::default() };
    };
    let (held, given) = (by_step(&before), by_step(&after));
    let mut changes = Changes::default();
    for part in &after {
        match held.get(part.step.as_str()) {
            Some(other) => {
                let below = compare(other.value, part.value, &part.place);
                changes.changed.insert(part.step.clone(), below.changed);
                changes.removed.insert(part.step.clone(), below.removed);
            }
            None => changes.changed.insert(part.step.clone(), added(part, place)),
        }
    }
    for part in before.iter().filter(|part| !given.contains_key(part.step.as_str())) {
        let mut below = added(part, place);
        // Whoever held a container that is gone holds it no more.
        below.member = true;
        changes.removed.insert(part.step.clone(), below);
    }
    changes
}

fn by_step<'p, 'v>(parts: &'p [Part<'v>]) -> HashMap<&'p str, &'p Part<'v>> {
    parts.iter().map(|part| (part.step.as_str(), part)).collect()
}

fn added(part: &Part<'_>, parent: &Place) -> Set {
    let mut below = fields_and_containers_of(part.value, &part.place);
    below.member |= matches!(parent.r#type, Type::List(_));
    below
}

/// `live` with everything that `applied` sets.
pub(super) fn merge(live: &Value, applied: &Value, place: &Place) -> Value {
    let (Some(held), Some(given)) = (parts(live, place), parts(applied, place)) else { return applied.clone() };
    let known = by_step(&held);
    let merged = |part: &Part<'_>| match known.get(part.step.as_str()) {
        Some(other) => merge(other.value, part.value, &part.place),
        None => part.value.clone(),
    };
    if let Value::Object(live) = live {
        let mut fields = live.clone();
        for part in &given {
            fields.insert(name_of(&part.step).to_owned(), merged(part));
        }
        return Value::Object(fields);
    }
    // Lists: the order of what is applied, and among it, as early as they can, the items that only the server has.
    let places: HashMap<&str, usize> = given.iter().enumerate().map(|(at, part)| (part.step.as_str(), at)).collect();
    let mut items = Vec::with_capacity(held.len() + given.len());
    let mut next = 0;
    for part in &held {
        match places.get(part.step.as_str()).copied() {
            None => items.push(part.value.clone()),
            Some(at) if at < next => {}
            Some(at) => {
                items.extend(given[next..=at].iter().map(merged));
                next = at + 1;
            }
        }
    }
    items.extend(given[next..].iter().map(merged));
    Value::Array(items)
}

/// Takes the members of `gone` out of `value`, except where `owned` holds something at or below them. Containers that
/// this empties go too.
pub(super) fn remove(value: &mut Value, place: &Place, gone: &Set, owned: &Set) {
    let nothing = Set::default();
    let Some(steps) = parts(value, place) else { return };
    let steps: Vec<(String, Place)> = steps.into_iter().map(|part| (part.step, part.place)).collect();
    let mut keys = Set::default();
    if let Shape::Keyed(_, names) = place.shape() {
        names.iter().for_each(|name| keys.insert(field_step(name), Set::leaf()));
    }
    let mut keep = Vec::with_capacity(steps.len());
    let children: Vec<&mut Value> = match value {
        Value::Object(fields) => known_fields(fields, place),
        Value::Array(items) => items.iter_mut().collect(),
        _ => return,
    };
    for ((step, place), child) in steps.iter().zip(children) {
        let Some(gone) = gone.children.get(step) else {
            keep.push(true);
            continue;
        };
        let owned = owned.children.get(step).unwrap_or(&nothing);
        // An item that stays keeps what it is known by.
        let kept_keys = if owned.is_empty() { Set::default() } else { keys.clone() };
        let owned = &owned.union(&kept_keys);
        let was_empty = is_empty(child);
        remove(child, place, gone, owned);
        let emptied = !was_empty && is_empty(child);
        keep.push(!(owned.is_empty() && gone.member || emptied && !owned.member));
    }
    match value {
        Value::Array(items) => {
            let mut keep = keep.into_iter();
            items.retain(|_| keep.next().unwrap_or(true));
        }
        Value::Object(fields) => {
            let dropped = steps.iter().zip(keep).filter(|(_, keep)| !keep);
            for ((step, _), _) in dropped {
                fields.remove(name_of(step));
            }
        }
        _ => {}
    }
}

/// Mutable values in the order in which `parts` gives them.
fn known_fields<'a>(fields: &'a mut Map<String, Value>, place: &Place) -> Vec<&'a mut Value> {
    let known = |name: &str| match place.shape() {
        Shape::Fields(of) => of.field(name).is_some(),
        _ => true,
    };
    fields.iter_mut().filter(|(name, _)| known(name)).map(|(_, value)| value).collect()
}

/// The field or the map's key that a step leads to.
fn name_of(step: &str) -> &str {
    step.strip_prefix("f:").unwrap_or(step)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
