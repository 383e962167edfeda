//! Sets of fields, as `metadata.managedFields` writes them (`FieldsV1` of sigs.k8s.io/structured-merge-diff).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A tree whose edges are steps (`f:name`, `k:{"name":"web"}`, `v:"item"`), each node in the set or only on the way to
/// one that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub member: bool,
    pub children: BTreeMap<String, Set>,
}

impl Set {
    pub fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Enters `set` below the step. An empty one isn't entered.
    pub fn insert(&mut self, step: String, set: Self) {
        if !set.is_empty() {
            self.children.insert(step, set);
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.member |= other.member;
        for (step, set) in &other.children {
            let merged = all.children.get(step).map_or_else(|| set.clone(), |held| held.union(set));
            all.children.insert(step.clone(), merged);
        }
        all
    }

    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Self { member: self.member && !other.member, children: BTreeMap::new() };
        for (step, set) in &self.children {
            left.insert(step.clone(), other.children.get(step).map_or_else(|| set.clone(), |o| set.difference(o)));
        }
        left
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (step, set) in &self.children {
            if let Some(other) = other.children.get(step) {
                both.insert(step.clone(), set.intersection(other));
            }
        }
        both
    }

    /// Every member's path as upstream prints it: `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.clone());
        }
        for (step, set) in &self.children {
            let length = path.len();
            push_step(path, step);
            set.collect_paths(path, paths);
            path.truncate(length);
        }
    }

    /// `FieldsV1`.
    pub fn encode(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, set) in &self.children {
            fields.insert(step.clone(), set.encode());
        }
        Value::Object(fields)
    }

    /// From `FieldsV1`; what isn't well-formed is left out.
    pub fn decode(fields: &Value) -> Self {
        let mut set = Self::decode_node(fields);
        set.member = false;
        set
    }

    fn decode_node(fields: &Value) -> Self {
        let Some(fields) = fields.as_object() else { return Self::default() };
        let mut set = Self { member: fields.is_empty() || fields.contains_key("."), children: BTreeMap::new() };
        for (step, inner) in fields.iter().filter(|(step, _)| *step != ".") {
            if let Some(step) = canonical(step) {
                set.insert(step, Self::decode_node(inner));
            }
        }
        set
    }
}

pub(super) fn field_step(name: &str) -> String {
    format!("f:{name}")
}

pub(super) fn key_step(keys: &BTreeMap<&str, Value>) -> String {
    let fields: Vec<String> = keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("k:{{{}}}", fields.join(","))
}

pub(super) fn value_step(value: &Value) -> String {
    format!("v:{value}")
}

/// The step as this program writes it: equal steps must be equal texts.
fn canonical(step: &str) -> Option<String> {
    let (kind, text) = step.split_at_checked(2)?;
    match kind {
        "f:" | "i:" => Some(step.to_owned()),
        "v:" => Some(value_step(&serde_json::from_str(text).ok()?)),
        "k:" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(text).ok()?;
            Some(key_step(&keys.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()))
        }
        _ => None,
    }
}

fn push_step(path: &mut String, step: &str) {
    let (kind, text) = step.split_at_checked(2).unwrap_or(("", step));
    let written = match kind {
        "k:" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(path, "[{}]", shown.join(","))
        }
        "v:" => write!(path, "[={text}]"),
        "i:" => write!(path, "[{text}]"),
        _ => write!(path, ".{text}"),
    };
    written.expect("writing to a String never fails");
}
