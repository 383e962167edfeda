//! Discovery documents, from the table of kinds.

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Subresource};
use crate::kinds;

/// `/api`. `address` is the server's own, `host:port`.
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions_of(""),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`: an `APIGroupList`.
pub fn groups() -> Value {
    let groups: Vec<Value> = named_groups().into_iter().map(api_group).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/{group}`: an `APIGroup`.
pub fn group(group: &str) -> Option<Value> {
    let known = named_groups().into_iter().find(|name| *name == group)?;
    let mut document = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), api_group(known)) {
        document.extend(fields);
    }
    Some(document)
}

/// `/api/v1` (group empty) or `/apis/{group}/{version}`: an `APIResourceList`.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(group, version);
    if kinds.is_empty() {
        return None;
    }
    let resources: Vec<Value> = kinds.into_iter().flat_map(api_resources).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": resources,
    }))
}

/// `/api` in aggregated form (`apidiscovery.k8s.io/v2`, `APIGroupDiscoveryList`).
pub fn aggregated_core() -> Value {
    aggregated(&[""])
}

/// `/apis` in aggregated form.
pub fn aggregated_groups() -> Value {
    aggregated(&named_groups())
}

/// Groups other than the core one, in the table's order, which is upstream's order of preference.
fn named_groups() -> Vec<&'static str> {
    let mut names = Vec::new();
    for kind in kinds::all() {
        if !kind.group.is_empty() && !names.contains(&kind.group) {
            names.push(kind.group);
        }
    }
    names
}

/// Preferred first: `v2` before `v1`.
fn versions_of(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = kinds::all().iter().filter(|k| k.group == group).map(|k| k.version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    versions
}

fn kinds_of(group: &str, version: &str) -> Vec<&'static Kind> {
    let mut found: Vec<&Kind> =
        kinds::all().iter().copied().filter(|k| k.group == group && k.version == version).collect();
    found.sort_by_key(|kind| kind.plural);
    found
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

fn api_group(group: &str) -> Value {
    let versions: Vec<Value> = versions_of(group)
        .into_iter()
        .map(|version| json!({ "groupVersion": group_version(group, version), "version": version }))
        .collect();
    let preferred = versions.first().cloned();
    json!({ "name": group, "versions": versions, "preferredVersion": preferred })
}

fn api_resources(kind: &'static Kind) -> Vec<Value> {
    let mut listed = Vec::with_capacity(1 + kind.subresources.len());
    if !kind.verbs.is_empty() {
        let mut fields = Map::new();
        fields.insert("name".into(), kind.plural.into());
        fields.insert("singularName".into(), kind.singular.into());
        fields.insert("namespaced".into(), kind.namespaced.into());
        fields.insert("kind".into(), kind.kind.into());
        fields.insert("verbs".into(), json!(kind.verbs));
        insert_names(&mut fields, kind);
        listed.push(Value::Object(fields));
    }
    for subresource in sorted(kind.subresources) {
        let mut fields = Map::new();
        fields.insert("name".into(), format!("{}/{}", kind.plural, subresource.name).into());
        fields.insert("singularName".into(), "".into());
        fields.insert("namespaced".into(), kind.namespaced.into());
        if let Some((group, version)) = subresource.group_version {
            if !group.is_empty() {
                fields.insert("group".into(), group.into());
            }
            fields.insert("version".into(), version.into());
        }
        fields.insert("kind".into(), subresource.kind.into());
        fields.insert("verbs".into(), json!(subresource.verbs));
        listed.push(Value::Object(fields));
    }
    listed
}

fn sorted(subresources: &'static [Subresource]) -> Vec<&'static Subresource> {
    let mut sorted: Vec<_> = subresources.iter().collect();
    sorted.sort_by_key(|subresource| subresource.name);
    sorted
}

fn insert_names(fields: &mut Map<String, Value>, kind: &Kind) {
    if !kind.short_names.is_empty() {
        fields.insert("shortNames".into(), json!(kind.short_names));
    }
    if !kind.categories.is_empty() {
        fields.insert("categories".into(), json!(kind.categories));
    }
}

fn aggregated(groups: &[&'static str]) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = versions_of(group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = kinds_of(group, version).into_iter().map(aggregated_resource).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let mut fields = Map::new();
    fields.insert("resource".into(), kind.plural.into());
    fields.insert("responseKind".into(), json!({ "group": kind.group, "version": kind.version, "kind": kind.kind }));
    fields.insert("scope".into(), if kind.namespaced { "Namespaced" } else { "Cluster" }.into());
    fields.insert("singularResource".into(), kind.singular.into());
    fields.insert("verbs".into(), json!(kind.verbs));
    insert_names(&mut fields, kind);
    let subresources: Vec<Value> = sorted(kind.subresources)
        .into_iter()
        .map(|subresource| {
            let (group, version) = subresource.group_version.unwrap_or((kind.group, kind.version));
            json!({
                "subresource": subresource.name,
                "responseKind": { "group": group, "version": version, "kind": subresource.kind },
                "verbs": subresource.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        fields.insert("subresources".into(), subresources.into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(items: &'a Value, key: &str, name: &str) -> &'a Value {
        items.as_array().into_iter().flatten().find(|item| item[key] == name).expect(name)
    }

    #[test]
    fn resources_are_listed_as_upstream_lists_them() {
        let apps = resources("apps", "v1").expect("a served version");
        assert_eq!(apps["groupVersion"], "apps/v1");
        let deployments = named(&apps["resources"], "name", "deployments");
        assert_eq!(
            *deployments,
            json!({
                "name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": ["deploy"], "categories": ["all"],
            })
        );
        assert_eq!(
            *named(&apps["resources"], "name", "deployments/scale"),
            json!({
                "name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
            })
        );
        assert_eq!(resources("apps", "v2"), None);
        assert_eq!(resources("", "v1").expect("core")["groupVersion"], "v1");
    }

    #[test]
    fn groups_prefer_their_newest_version() {
        let groups = groups();
        let autoscaling = named(&groups["groups"], "name", "autoscaling");
        assert_eq!(autoscaling["preferredVersion"], json!({ "groupVersion": "autoscaling/v2", "version": "v2" }));
        assert_eq!(group("apps").expect("served")["kind"], "APIGroup");
        assert_eq!(group("nothing"), None);
    }

    #[test]
    fn one_document_holds_all_of_it() {
        let core = aggregated_core();
        let pods = named(&core["items"][0]["versions"][0]["resources"], "resource", "pods");
        assert_eq!(pods["responseKind"], json!({ "group": "", "version": "v1", "kind": "Pod" }));
        assert_eq!(pods["scope"], "Namespaced");
        assert_eq!(
            named(&pods["subresources"], "subresource", "eviction")["responseKind"],
            json!({ "group": "policy", "version": "v1", "kind": "Eviction" })
        );
        assert_eq!(aggregated_groups()["items"].as_array().map(Vec::len), groups()["groups"].as_array().map(Vec::len));
    }
}
