//! From the generated JSON schemas to interned types. The JSON is dropped: what stays is about a hundred bytes a field.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::{Field, Struct, Type};
use crate::kind::Kind;
use crate::merge;

#[derive(Default)]
struct Registry {
    structs: HashMap<&'static str, &'static Struct>,
    /// By the kind's place in memory: kinds are statics.
    roots: HashMap<usize, &'static Struct>,
    /// Element types of maps and lists, each leaked once.
    elements: HashMap<String, &'static Type>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

pub(super) fn root(kind: &Kind) -> &'static Struct {
    let place = std::ptr::from_ref(kind) as usize;
    let mut registry = REGISTRY.lock();
    if let Some(found) = registry.roots.get(&place) {
        return found;
    }
    let mut generator = SchemaGenerator::default();
    let schema = (kind.schema)(&mut generator).to_value();
    let definitions = generator.take_definitions(false);
    let root = match registry.resolve(&schema, &definitions) {
        Type::Struct(of) => of,
        // A kind without a schema of its own: nothing is known of its fields.
        _ => registry.intern("", &Value::Null, &definitions),
    };
    registry.roots.insert(place, root);
    root
}

impl Registry {
    fn resolve(&mut self, schema: &Value, definitions: &Map<String, Value>) -> Type {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
            return self.named(name, definitions);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("boolean") => Type::Bool,
            Some("integer") if schema.get("format").and_then(Value::as_str) == Some("int32") => Type::Int32,
            Some("integer") => Type::Int64,
            Some("number") => Type::Number,
            Some("string") => match schema.get("format").and_then(Value::as_str) {
                Some("byte") => Type::Bytes,
                Some("date-time") => Type::Time,
                _ => Type::Text,
            },
            Some("array") => {
                schema.get("items").map_or(Type::Any, |items| Type::List(self.element(items, definitions)))
            }
            Some("object") => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => Type::Map(self.element(values, definitions)),
                _ => Type::Any,
            },
            _ => Type::Any,
        }
    }

    fn named(&mut self, name: &str, definitions: &Map<String, Value>) -> Type {
        match name {
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => return Type::Quantity,
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => return Type::IntOrString,
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => return Type::MicroTime,
            _ => {}
        }
        if let Some(found) = self.structs.get(name) {
            return Type::Struct(found);
        }
        match definitions.get(name) {
            Some(definition) if definition.get("properties").is_some() => {
                Type::Struct(self.intern(name, definition, definitions))
            }
            Some(definition) => self.resolve(definition, definitions),
            None => Type::Any,
        }
    }

    fn intern(&mut self, name: &str, definition: &Value, definitions: &Map<String, Value>) -> &'static Struct {
        let name: &'static str = String::leak(name.to_owned());
        let interned: &'static Struct = Box::leak(Box::new(Struct { name, fields: OnceLock::new() }));
        // Entered before its fields are walked, so that a type that contains itself finds itself.
        self.structs.insert(name, interned);
        let properties = definition.get("properties").and_then(Value::as_object);
        let required = definition.get("required").and_then(Value::as_array);
        let is_required = |field: &str| required.is_some_and(|names| names.iter().any(|name| name == field));
        let mut fields: Vec<Field> = properties
            .into_iter()
            .flatten()
            .map(|(field, schema)| Field {
                name: String::leak(field.clone()),
                r#type: self.resolve(schema, definitions),
                required: is_required(field),
                merge: merge::of_field(name, field),
            })
            .collect();
        fields.sort_unstable_by_key(|field| field.name);
        interned.fields.get_or_init(|| fields.into_boxed_slice());
        interned
    }

    fn element(&mut self, schema: &Value, definitions: &Map<String, Value>) -> &'static Type {
        let element = self.resolve(schema, definitions);
        self.elements.entry(format!("{element:?}")).or_insert_with(|| Box::leak(Box::new(element)))
    }
}
