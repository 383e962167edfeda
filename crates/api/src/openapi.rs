//! OpenAPI documents. Made when asked for and not kept: the caller caches the bytes it serves.
//!
//! kubectl reads them to explain fields, to compute its patches and to learn which query parameters a server honours.

pub mod gnostic;
mod paths;
mod schemas;

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::kinds;

/// Counts changes in how documents are made. Clients keep a document for as long as its hash stays.
const FORMAT: u32 = 3;

/// `/openapi/v3`: a relative URL with a hash for each group version.
pub fn v3_index() -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions() {
        let path = path_of(group, version);
        let url = format!("/openapi/v3/{path}?hash={:016X}", hash_of(group, version));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/{path}`, `path` being `api/v1`, `apis/apps/v1` …
pub fn v3(path: &str) -> Option<Vec<u8>> {
    let (group, version) = group_versions().into_iter().find(|(group, version)| path_of(group, version) == path)?;
    let kinds = kinds_of(group, version);
    let components = schemas::of(&kinds, "#/components/schemas/");
    let mut paths = Map::new();
    for kind in &kinds {
        paths::insert(kind, &components, &mut paths);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": { "schemas": components.schemas },
    });
    // Only a map with keys that aren't strings fails to be written.
    serde_json::to_vec(&document).ok()
}

/// `/openapi/v2` as JSON, for clients that know no other: the definitions of every kind, without operations.
pub fn v2() -> Vec<u8> {
    let components = schemas::of(kinds::all(), "#/definitions/");
    let document = json!({ "swagger": "2.0", "info": info(), "paths": {}, "definitions": components.schemas });
    serde_json::to_vec(&document).unwrap_or_default()
}

/// The same as protobuf, in the form of [`gnostic::MEDIA_TYPE`].
pub fn v2_protobuf() -> Vec<u8> {
    gnostic::document("2.0", &info(), &schemas::of(kinds::all(), "#/definitions/").schemas)
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": "v1.36.0" })
}

fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<_> = kinds::all().iter().map(|kind| (kind.group, kind.version)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn kinds_of(group: &str, version: &str) -> Vec<&'static Kind> {
    kinds::all().iter().copied().filter(|kind| kind.group == group && kind.version == version).collect()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// FNV-1a over what a document is made from, which is far cheaper than making it.
fn hash_of(group: &str, version: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(env!("CARGO_PKG_VERSION"));
    eat(&FORMAT.to_string());
    for kind in kinds_of(group, version) {
        eat(kind.kind);
        kind.verbs.iter().for_each(|verb| eat(verb));
        kind.subresources.iter().for_each(|subresource| eat(subresource.name));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str) -> Value {
        serde_json::from_slice(&v3(path).expect("a served group version")).expect("JSON")
    }

    /// Every `$ref` of a document, wherever it stands.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.push(reference.clone());
                }
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_index_names_every_document() {
        let index = v3_index();
        let paths = index["paths"].as_object().expect("an object");
        assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
        for (path, entry) in paths {
            let url = entry["serverRelativeURL"].as_str().expect("a URL");
            assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
            let document = document(path);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                // Properties may be called $ref themselves; those hold a schema, not a text.
                let name = reference.strip_prefix("#/components/schemas/").expect("a reference into the document");
                assert!(document["components"]["schemas"].get(name).is_some(), "{path}: {name}");
            }
        }
        assert_eq!(v3("apis/nothing/v1"), None);
    }

    #[test]
    fn closed_sets_are_of_fields_that_there_are() {
        let document: Value = serde_json::from_slice(&v2()).expect("JSON");
        let lines: Vec<&str> = schemas::ENUMS.lines().collect();
        assert!(lines.is_sorted());
        for line in lines {
            let (field, values) = line.split_once(' ').expect("a field and its values");
            let (name, field) = field.rsplit_once('.').expect("a type and a field");
            let property = &document["definitions"][name]["properties"][field];
            let holders = [property, &property["items"], &property["additionalProperties"]];
            let found = holders.iter().find_map(|holder| holder.get("enum"));
            assert_eq!(found, Some(&json!(values.split(',').collect::<Vec<_>>())), "{line}");
        }
    }

    #[test]
    fn kubectl_finds_what_it_computes_its_patches_from() {
        let core = document("api/v1");
        let schemas = &core["components"]["schemas"];
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-type"], "map");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
        let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
        assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
        let gvk = json!([{ "group": "", "version": "v1", "kind": "Pod" }]);
        assert_eq!(schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"], gvk);
        let security = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["securityContext"];
        assert_eq!(security["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodSecurityContext");
        assert_eq!(schemas["io.k8s.api.core.v1.ObjectReference"]["x-kubernetes-map-type"], "atomic");

        let spec = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"];
        assert_eq!(spec["type"]["enum"], json!(["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]));
        assert_eq!(spec["ipFamilies"]["items"]["enum"], json!(["", "IPv4", "IPv6"]));

        let required = |name: &str| schemas[format!("io.k8s.api.core.v1.{name}")]["required"].clone();
        assert_eq!(required("LocalObjectReference"), Value::Null);
        assert_eq!(required("ConfigMapKeySelector"), json!(["key"]));

        let apps = document("apis/apps/v1");
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({ "group": "apps", "version": "v1", "kind": "Deployment" })
        );
        let names: Vec<&str> =
            patch["parameters"].as_array().expect("a list").iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"), "{names:?}");
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        let list = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["get"];
        assert_eq!(list["x-kubernetes-action"], "list");
        let schemas = &apps["components"]["schemas"];
        assert_eq!(
            schemas["io.k8s.api.apps.v1.DeploymentList"]["properties"]["items"]["items"]["$ref"],
            "#/components/schemas/io.k8s.api.apps.v1.Deployment"
        );
    }
}
