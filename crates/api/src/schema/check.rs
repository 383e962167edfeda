//! Decoding as upstream's decoder does it: unknown fields and nulls are dropped, wrong types refused in its words,
//! quantities, times and bytes brought to the form in which they are written back.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{Struct, Type};
use crate::field::quoted;
use crate::golang;
use crate::kind::Kind;
use crate::quantity::Quantity;

/// Upstream reports no more strict errors than this.
const MOST_UNKNOWN: usize = 100;

/// What a request's body looks like against its kind's schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`, the first found.
    pub type_error: Option<String>,
    /// `unknown field "spec.foo"`, in the order met, a hundred at most.
    pub unknown: Vec<String>,
}

/// Drops from `value` what the kind doesn't have (and nulls), as upstream's decoder does, and says what it met.
pub fn check(kind: &Kind, value: &mut Value) -> Checked {
    let root = super::of(kind);
    let mut walk = Walk { path: Vec::new(), structs: Vec::new(), checked: Checked::default() };
    if root.fields().is_empty() {
        return walk.checked;
    }
    walk.value(&Type::Struct(root), value);
    walk.checked
}

fn holds_nothing(of: &Type, value: &Value) -> bool {
    match (of, value) {
        (Type::Map(_), Value::Object(entries)) => entries.is_empty(),
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        _ => false,
    }
}

enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

struct Walk {
    path: Vec<Step>,
    /// Around the value being read, outermost first.
    structs: Vec<&'static Struct>,
    checked: Checked,
}

impl Walk {
    fn value(&mut self, of: &Type, value: &mut Value) {
        match of {
            Type::Any => {}
            Type::Struct(of) => self.fields(of, value),
            Type::Map(element) => self.entries(element, value),
            Type::List(element) => self.items(element, value),
            Type::Bool if value.is_boolean() => {}
            Type::Text if value.is_string() => {}
            Type::Number if value.is_number() => {}
            Type::Int64 if value.is_i64() => {}
            Type::Int32 if value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
            Type::Bytes if value.is_string() => self.bytes(value),
            Type::Time | Type::MicroTime => self.time(of, value),
            Type::Quantity => self.quantity(value),
            Type::IntOrString => self.int_or_string(value),
            Type::Bool | Type::Text | Type::Number | Type::Int32 | Type::Int64 | Type::Bytes => {
                self.mismatch(of, value)
            }
        }
    }

    fn fields(&mut self, of: &'static Struct, value: &mut Value) {
        let Value::Object(object) = value else { return self.mismatch(&Type::Struct(of), value) };
        self.structs.push(of);
        object.retain(|name, value| {
            let Some(field) = of.field(name) else {
                self.unknown(name);
                return false;
            };
            // Go's decoder leaves the field unset, and an unset field isn't written back.
            if value.is_null() {
                return false;
            }
            self.path.push(Step::Field(field.name));
            self.value(&field.r#type, value);
            self.path.pop();
            // Nor are maps and lists that hold nothing.
            field.required || !holds_nothing(&field.r#type, value)
        });
        self.structs.pop();
    }

    fn entries(&mut self, element: &'static Type, value: &mut Value) {
        let Value::Object(object) = value else { return self.mismatch(&Type::Map(element), value) };
        for (key, value) in object {
            self.path.push(Step::Key(key.clone()));
            self.element(element, value);
            self.path.pop();
        }
    }

    fn items(&mut self, element: &'static Type, value: &mut Value) {
        let Value::Array(items) = value else { return self.mismatch(&Type::List(element), value) };
        for (index, value) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(index));
            self.element(element, value);
            self.path.pop();
        }
    }

    /// A null among elements is Go's zero value.
    fn element(&mut self, of: &Type, value: &mut Value) {
        if !value.is_null() {
            return self.value(of, value);
        }
        *value = match of {
            Type::Any | Type::Time | Type::MicroTime | Type::Map(_) | Type::List(_) => Value::Null,
            Type::Bool => false.into(),
            Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => 0.into(),
            Type::Text | Type::Bytes => "".into(),
            Type::Quantity => "0".into(),
            Type::Struct(_) => Value::Object(serde_json::Map::new()),
        };
    }

    fn bytes(&mut self, value: &mut Value) {
        let Some(text) = value.as_str() else { return };
        // Go's decoder skips line breaks.
        let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match STANDARD.decode(&plain) {
            Ok(_) if plain.len() == text.len() => {}
            Ok(_) => *value = plain.into(),
            Err(error) => {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    base64::DecodeError::InvalidLength(length) => length - length % 4,
                    base64::DecodeError::InvalidPadding => plain.len(),
                };
                self.refuse(format!("illegal base64 data at input byte {at}"));
            }
        }
    }

    fn time(&mut self, of: &Type, value: &mut Value) {
        let Some(text) = value.as_str() else {
            let got = golang::type_name(value);
            return self.refuse(format!("json: cannot unmarshal {got} into Go value of type string"));
        };
        let (layout, digits) = match of {
            Type::MicroTime => ("2006-01-02T15:04:05.000000Z07:00", 6),
            _ => ("2006-01-02T15:04:05Z07:00", 0),
        };
        match text.parse::<Timestamp>() {
            Ok(time) => {
                let written = format!("{time:.digits$}");
                if written != text {
                    *value = written.into();
                }
            }
            Err(_) => {
                let text = quoted(text);
                self.refuse(format!("parsing time {text} as {layout:?}: cannot parse {text} as \"2006\""));
            }
        }
    }

    fn quantity(&mut self, value: &mut Value) {
        let text = match &*value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match Quantity::parse(&text) {
            Ok(quantity) => {
                let canonical = quantity.to_string();
                if value.as_str() != Some(canonical.as_str()) {
                    *value = canonical.into();
                }
            }
            Err(error) => self.refuse(error.to_string()),
        }
    }

    fn int_or_string(&mut self, value: &Value) {
        if value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
            return;
        }
        self.mismatch(&Type::Int32, value);
    }

    fn unknown(&mut self, name: &str) {
        if self.checked.unknown.len() < MOST_UNKNOWN {
            let path = self.shown_path();
            let dot = if path.is_empty() { "" } else { "." };
            self.checked.unknown.push(format!("unknown field {}", quoted(&format!("{path}{dot}{name}"))));
        }
    }

    fn mismatch(&mut self, of: &Type, value: &Value) {
        let got = match of {
            Type::Int32 | Type::Int64 => shown(value),
            _ => golang::type_name(value).to_owned(),
        };
        let wanted = of.go_path();
        // Go names the innermost struct and the fields that lead to the value, without indices or keys.
        let fields = self.path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            Step::Key(_) | Step::Index(_) => None,
        });
        let fields: Vec<&str> = fields.collect();
        let place = match self.structs.last() {
            Some(of) => format!("Go struct field {}.{}", of.go_name(), fields.join(".")),
            None => "Go value".to_owned(),
        };
        self.refuse(format!("json: cannot unmarshal {got} into {place} of type {wanted}"));
    }

    fn refuse(&mut self, error: String) {
        self.checked.type_error.get_or_insert(error);
    }

    /// `spec.template.spec.containers[0]`.
    fn shown_path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            let written = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Key(key) => write!(path, ".{key}"),
            };
            written.expect("writing to a String never fails");
        }
        path
    }
}

/// A number that doesn't fit is printed; of other values only the kind is.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("number {number}"),
        other => golang::type_name(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    fn checked(group: &str, kind: &str, mut value: Value) -> (Checked, Value) {
        let kind = kinds::by_kind(group, "v1", kind).expect("a served kind");
        let checked = check(kind, &mut value);
        (checked, value)
    }

    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        let container = |container| json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let cases = [
            (
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"replicas": 3_000_000_000u64}}),
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
            ),
            (json!("x"), "json: cannot unmarshal string into Go value of type v1.Deployment"),
            (
                container(json!({"env": [{"name": "A", "value": 1}]})),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
            ),
            (
                container(json!({"command": "sh"})),
                "json: cannot unmarshal string into Go struct field Container.spec.template.spec.containers.command of type []string",
            ),
            (
                json!({"metadata": {"labels": {"a": true}}}),
                "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                container(json!({"resources": {"limits": {"cpu": "1x"}}})),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                json!({"metadata": {"creationTimestamp": "yesterday"}}),
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
        ];
        for (value, expected) in cases {
            let (checked, _) = checked("apps", "Deployment", value.clone());
            assert_eq!(checked.type_error.as_deref(), Some(expected), "{value}");
        }
        let (secret, _) = checked("", "Secret", json!({"data": {"a": "!!"}}));
        assert_eq!(secret.type_error.as_deref(), Some("illegal base64 data at input byte 0"));
    }

    #[test]
    fn unknown_fields_and_nulls_are_dropped() {
        let (checked, value) = checked(
            "apps",
            "Deployment",
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "a", "creationTimestamp": null, "Labels": {}},
                "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "c", "bar": 2}], "volumes": null}}},
            }),
        );
        assert_eq!(checked.type_error, None);
        let mut unknown = checked.unknown;
        unknown.sort();
        assert_eq!(
            unknown,
            [
                r#"unknown field "metadata.Labels""#,
                r#"unknown field "spec.foo""#,
                r#"unknown field "spec.template.spec.containers[0].bar""#,
            ]
        );
        assert_eq!(
            value,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
                "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
            })
        );
    }

    /// As `omitempty` has it: what must be there stays.
    #[test]
    fn maps_and_lists_that_hold_nothing_are_dropped() {
        let mut pod = json!({
            "metadata": { "name": "a", "labels": {}, "finalizers": [] },
            "spec": { "containers": [], "tolerations": [], "volumes": [{ "name": "v", "emptyDir": {} }] },
        });
        assert_eq!(check(crate::kinds::by_kind("", "v1", "Pod").expect("a kind"), &mut pod), Checked::default());
        let kept = json!({
            "metadata": { "name": "a" },
            "spec": { "containers": [], "volumes": [{ "name": "v", "emptyDir": {} }] },
        });
        assert_eq!(pod, kept);
    }

    #[test]
    fn values_take_the_form_in_which_upstream_writes_them() {
        let (checked, value) = checked(
            "",
            "Pod",
            json!({
                "metadata": {"creationTimestamp": "2026-01-02T03:04:05.678+02:00"},
                "spec": {"containers": [{
                    "name": "c",
                    "resources": {"requests": {"cpu": 0.5, "memory": "1024Ki"}},
                    "livenessProbe": {"httpGet": {"port": "http"}},
                    "args": [null],
                }]},
            }),
        );
        assert_eq!(checked, Checked::default());
        assert_eq!(
            value,
            json!({
                "metadata": {"creationTimestamp": "2026-01-02T01:04:05Z"},
                "spec": {"containers": [{
                    "name": "c",
                    "resources": {"requests": {"cpu": "500m", "memory": "1Mi"}},
                    "livenessProbe": {"httpGet": {"port": "http"}},
                    "args": [""],
                }]},
            })
        );
    }

    #[test]
    fn every_kind_has_a_shape() {
        for kind in kinds::all() {
            let shape = crate::schema::of(kind);
            assert!(shape.field("metadata").is_some(), "{} has no metadata: {shape:?}", kind.kind);
        }
    }

    #[test]
    fn schemas_of_definitions_may_nest_without_end() {
        let schema = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}, "default": [1]}}});
        let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
        let (checked, value) = checked("apiextensions.k8s.io", "CustomResourceDefinition", definition.clone());
        assert_eq!((checked, value), (Checked::default(), definition));
    }
}
