//! Operations: which verbs each path takes, on which kind, with which query parameters.

use serde_json::{Map, Value, json};

use super::schemas::{Components, DELETE_OPTIONS};
use crate::kind::{Kind, Subresource};

type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', the output is indented.");
const DRY_RUN: Parameter = ("dryRun", "string", "With 'All', everything is done but storing the result.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Who makes these changes.");
const FIELD_VALIDATION: Parameter =
    ("fieldValidation", "string", "What unknown and duplicate fields do: Ignore, Warn (the default) or Strict.");
const FORCE: Parameter = ("force", "boolean", "Take over fields that others manage (apply patches only).");
const LIST: &[Parameter] = &[
    PRETTY,
    ("allowWatchBookmarks", "boolean", "Asks a watch for events of type BOOKMARK."),
    ("continue", "string", "Token of the last page, for the next one."),
    ("fieldSelector", "string", "Only objects whose fields match."),
    ("labelSelector", "string", "Only objects whose labels match."),
    ("limit", "integer", "The most objects to answer in one page."),
    ("resourceVersion", "string", "At or after which version."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects that there are."),
    ("timeoutSeconds", "integer", "How long the call may last."),
    ("watch", "boolean", "Answer changes as they happen."),
];
const READ: &[Parameter] = &[PRETTY];
const WRITE: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETE: &[Parameter] = &[
    PRETTY,
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 is at once."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];
const PATCH_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// What an operation is about.
struct Target<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    /// Name of the schema of its bodies, where the document has it.
    schema: Option<&'a str>,
}

/// Adds the paths of a kind and of its subresources.
pub(super) fn insert(kind: &'static Kind, components: &Components, paths: &mut Map<String, Value>) {
    let root = super::path_of(kind.group, kind.version);
    let scope = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{root}/{scope}{}", kind.plural);
    let target = Target { group: kind.group, version: kind.version, kind: kind.kind, schema: components.name(kind) };
    let list_schema = target.schema.map(|name| format!("{name}List"));
    let list_target = Target { schema: list_schema.as_deref(), ..target };
    let list = || operation("list", "list", &list_target, LIST, None);

    let mut on_collection = Map::new();
    let mut on_item = Map::new();
    for verb in kind.verbs {
        match *verb {
            "list" => on_collection.insert("get".into(), list()),
            "create" => on_collection.insert("post".into(), operation("create", "post", &target, WRITE, target.schema)),
            "deletecollection" => {
                let options = Some(DELETE_OPTIONS);
                on_collection.insert("delete".into(), operation(verb, verb, &target, DELETE, options))
            }
            "get" => on_item.insert("get".into(), operation("read", "get", &target, READ, None)),
            "update" => on_item.insert("put".into(), operation("replace", "put", &target, WRITE, target.schema)),
            "patch" => on_item.insert("patch".into(), patch_operation(&target)),
            "delete" => {
                on_item.insert("delete".into(), operation("delete", "delete", &target, DELETE, Some(DELETE_OPTIONS)))
            }
            _ => None,
        };
    }
    if kind.namespaced && kind.verbs.contains(&"list") {
        let everywhere = Map::from_iter([("get".to_owned(), list())]);
        paths.insert(format!("/{root}/{}", kind.plural), Value::Object(everywhere));
    }
    let in_path: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
    insert_path(paths, collection.clone(), on_collection, in_path);
    let in_path: &[&str] = if kind.namespaced { &["namespace", "name"] } else { &["name"] };
    insert_path(paths, format!("{collection}/{{name}}"), on_item, in_path);
    for subresource in kind.subresources {
        let operations = subresource_operations(subresource, &target);
        insert_path(paths, format!("{collection}/{{name}}/{}", subresource.name), operations, in_path);
    }
}

fn subresource_operations(subresource: &Subresource, parent: &Target<'_>) -> Map<String, Value> {
    let (group, version) = subresource.group_version.unwrap_or((parent.group, parent.version));
    let schema = if subresource.kind == parent.kind { parent.schema } else { None };
    let target = Target { group, version, kind: subresource.kind, schema };
    let mut operations = Map::new();
    for verb in subresource.verbs {
        match *verb {
            "get" => operations.insert("get".into(), operation("read", "get", &target, READ, None)),
            "create" => operations.insert("post".into(), operation("create", "post", &target, WRITE, schema)),
            "update" => operations.insert("put".into(), operation("replace", "put", &target, WRITE, schema)),
            "patch" => operations.insert("patch".into(), patch_operation(&target)),
            "delete" => operations.insert("delete".into(), operation("delete", "delete", &target, DELETE, None)),
            _ => None,
        };
    }
    operations
}

fn insert_path(paths: &mut Map<String, Value>, path: String, mut operations: Map<String, Value>, in_path: &[&str]) {
    if operations.is_empty() {
        return;
    }
    if !in_path.is_empty() {
        let parameters = in_path.iter().map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } })
        });
        operations.insert("parameters".into(), parameters.collect());
    }
    paths.insert(path, Value::Object(operations));
}

fn operation(does: &str, action: &str, target: &Target<'_>, query: &[Parameter], body: Option<&str>) -> Value {
    let parameters = query.iter().map(|(name, r#type, description)| {
        json!({ "name": name, "in": "query", "description": description, "schema": { "type": r#type, "uniqueItems": true } })
    });
    let schema = target.schema.map_or_else(|| json!({}), reference);
    let mut operation = json!({
        "description": format!("{does} {}", target.kind),
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": schema } } } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": target.group, "version": target.version, "kind": target.kind,
        },
    });
    if let (Some(schema), Some(fields)) = (body, operation.as_object_mut()) {
        let content = json!({ "*/*": { "schema": reference(schema) } });
        fields.insert("requestBody".into(), json!({ "content": content, "required": action != "delete" }));
    }
    operation
}

fn patch_operation(target: &Target<'_>) -> Value {
    let mut operation = operation("partially update", "patch", target, PATCH, None);
    let content: Map<String, Value> =
        PATCH_TYPES.iter().map(|name| ((*name).to_owned(), json!({ "schema": { "type": "object" } }))).collect();
    if let Some(fields) = operation.as_object_mut() {
        fields.insert("requestBody".into(), json!({ "content": content, "required": true }));
    }
    operation
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
