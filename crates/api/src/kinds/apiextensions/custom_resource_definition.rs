//! A kind that a user defines.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{one_of, required, required_name, unchanged};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{fill, flag, list, some, sub, text};
use crate::names;

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("CustomResourceDefinition")],
    columns: &[Column::NAME, Column::CREATED_AT],
    row,
    default,
    validate,
    prepare,
    schema: schema_of::<CustomResourceDefinition>,
    has_generation: true,
    unconditional_update: false,
    ..Kind::NONE
};

fn row(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/metadata/creationTimestamp").into()]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    if let Some(conversion) = sub(spec, "conversion") {
        fill(conversion, "strategy", "None");
    }
    let Some(names) = sub(spec, "names") else { return };
    let kind = text(names, "/kind").to_owned();
    fill(names, "singular", kind.to_lowercase());
    if !kind.is_empty() {
        fill(names, "listKind", format!("{kind}List"));
    }
}

/// A new definition remembers in which version its objects are stored.
fn prepare(object: &mut Value, old: Option<&Value>) {
    if old.is_some() || !object.is_object() {
        return;
    }
    let stored: Vec<Value> = list(object, "/spec/versions")
        .iter()
        .filter(|version| flag(version, "/storage"))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    object["status"] = json!({
        "acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": stored,
    });
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
    let name = text(object, "/metadata/name");
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid("metadata.name", &name.into(), "must be spec.names.plural+\".\"+spec.group"));
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else {
        crate::kinds::check::invalid(&mut errors, "spec.group", group, names::dns1123_subdomain(group));
        if !group.contains('.') {
            errors.push(FieldError::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
        }
    }
    one_of(&mut errors, "spec.scope", text(spec, "/scope"), &["Cluster", "Namespaced"]);
    let versions = list(spec, "/versions");
    let mut stored = 0;
    for (i, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        let name = text(version, "/name");
        required_name(&mut errors, &format!("{path}.name"), name, names::dns1035_label);
        if versions.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        stored += usize::from(flag(version, "/storage"));
        if some(version, "/schema/openAPIV3Schema").is_none() {
            errors.push(FieldError::required(format!("{path}.schema.openAPIV3Schema"), "schemas are required"));
        }
    }
    if stored != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            &versions.into(),
            "must have exactly one version marked as storage version",
        ));
    }
    required_name(&mut errors, "spec.names.plural", plural, names::dns1035_label);
    let singular = text(spec, "/names/singular");
    required_name(&mut errors, "spec.names.singular", singular, names::dns1035_label);
    required(&mut errors, "spec.names.kind", text(spec, "/names/kind"));
    required(&mut errors, "spec.names.listKind", text(spec, "/names/listKind"));
    if let Some(old) = old {
        unchanged(&mut errors, "spec.group", object, old, "/spec/group");
        unchanged(&mut errors, "spec.names.plural", object, old, "/spec/names/plural");
    }
    errors
}
