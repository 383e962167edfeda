//! Strategic merge patch (`k8s.io/apimachinery/pkg/util/strategicpatch`): a merge patch that knows which lists merge,
//! and by which key, and whose directives (`$patch`, `$retainKeys` …) delete, replace and order.

use serde_json::{Map, Value};

use super::{PatchError, object};
use crate::golang;
use crate::kind::Kind;
use crate::merge::Merge;
use crate::schema::{self, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Kubernetes' strategic merge patch.
///
/// # Errors
/// `Malformed` if the patch isn't an object or a directive is malformed, `Unprocessable` if it doesn't fit the document.
pub fn strategic_patch(kind: &Kind, document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let Value::Object(patch) = object(patch).map_err(PatchError::Malformed)? else {
        return Err(malformed("invalid JSON document"));
    };
    let original = document.as_object().cloned().unwrap_or_default();
    merge_maps(&Type::Struct(schema::of(kind)), original, patch).map(Value::Object)
}

type Fields = Map<String, Value>;

fn merge_maps(of: &Type, mut original: Fields, mut patch: Fields) -> Result<Fields, PatchError> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
        None => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Fields::new()),
        Some("merge") => drop(patch.remove(DIRECTIVE)),
        Some(_) => return Err(unknown_directive(&Value::Object(patch))),
    }
    if let Some(retained) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut original, &patch, &retained)?;
    }
    let (directives, fields): (Vec<_>, Vec<_>) =
        patch.into_iter().partition(|(name, _)| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER));
    let mut orders = Vec::new();
    for (name, value) in directives {
        if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
            let Value::Array(deleted) = value else { return Err(malformed("invalid patch format of primitive list")) };
            if let Some(Value::Array(items)) = original.get_mut(list) {
                items.retain(|item| !deleted.contains(item));
            }
        } else if let Some(list) = name.strip_prefix(SET_ORDER) {
            let Value::Array(order) = value else {
                return Err(malformed("invalid patch format of setElementOrder list"));
            };
            orders.push((list.to_owned(), order));
        }
    }
    for (name, value) in fields {
        let order = orders.iter().position(|(list, _)| *list == name).map(|at| orders.swap_remove(at).1);
        merge_field(of, &mut original, name, value, order)?;
    }
    // An order may come alone: nothing of the list changes but the order.
    for (list, order) in orders {
        let (element, merge) = place(of, &list);
        if let Some(Value::Array(items)) = original.get_mut(&list) {
            let taken = std::mem::take(items);
            *items = merge_lists(element, merge, &list, taken, Vec::new(), Some(order))?;
        }
    }
    Ok(original)
}

/// The type and the merge rules of a field, or of a map's entry.
fn place(of: &Type, name: &str) -> (Type, Merge) {
    match of {
        Type::Struct(of) => {
            of.field(name).map_or((Type::Any, Merge::default()), |f| (f.r#type, f.merge.copied().unwrap_or_default()))
        }
        Type::Map(element) => (**element, Merge::default()),
        _ => (Type::Any, Merge::default()),
    }
}

fn merge_field(
    of: &Type,
    original: &mut Fields,
    name: String,
    value: Value,
    order: Option<Vec<Value>>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&name);
        return Ok(());
    }
    let (field, merge) = place(of, &name);
    let merged = match (original.remove(&name), value) {
        (Some(Value::Object(held)), Value::Object(patch)) if merge.patch_strategy != "replace" => {
            Value::Object(merge_maps(&field, held, patch)?)
        }
        (held, Value::Array(patch)) if merge.merges_in_patches() => {
            let held = match held {
                Some(Value::Array(held)) => held,
                _ => Vec::new(),
            };
            Value::Array(merge_lists(field, merge, &name, held, patch, order)?)
        }
        (None, Value::Object(patch)) if patch.contains_key(DIRECTIVE) => {
            Value::Object(merge_maps(&field, Fields::new(), patch)?)
        }
        (_, value) => plain(value),
    };
    original.insert(name, merged);
    Ok(())
}

fn retain_keys(original: &mut Fields, patch: &Fields, retained: &Value) -> Result<(), PatchError> {
    let Some(retained) = retained.as_array() else {
        return Err(malformed("invalid patch format of retainKeys"));
    };
    let kept = |name: &str| retained.iter().any(|key| key.as_str() == Some(name));
    if patch.keys().any(|name| !name.starts_with('$') && !patch[name].is_null() && !kept(name)) {
        return Err(PatchError::Malformed("invalid patch format of retainKeys".into()));
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

/// Merges a list that has the `merge` strategy. `of` is the list's type.
fn merge_lists(
    of: Type,
    merge: Merge,
    name: &str,
    mut held: Vec<Value>,
    patch: Vec<Value>,
    order: Option<Vec<Value>>,
) -> Result<Vec<Value>, PatchError> {
    let element = match of {
        Type::List(element) => *element,
        _ => Type::Any,
    };
    let key = merge.patch_key;
    let before = held.clone();
    let mut patched = Vec::with_capacity(patch.len());
    let mut replaced = false;
    for item in patch {
        match directive_of(&item)? {
            None => patched.push(item),
            Some(ListDirective::Replace) => replaced = true,
            Some(ListDirective::Delete) => {
                let wanted = key_of(&item, key)?.clone();
                held.retain(|item| item.get(key) != Some(&wanted));
            }
        }
    }
    if replaced {
        return Ok(patched.into_iter().map(plain).collect());
    }
    if let Some(order) = &order {
        check_order(&patched, order, key, name)?;
    }
    let order = match order {
        Some(order) => order,
        None => patched.clone(),
    };
    for item in patched {
        if key.is_empty() {
            if item.is_array() || item.is_object() {
                return Err(PatchError::Unprocessable(format!("cannot merge lists without merge key for {name}")));
            }
            if !held.contains(&item) {
                held.push(item);
            }
            continue;
        }
        let wanted = key_of(&item, key)?;
        match (held.iter_mut().find(|other| other.get(key) == Some(wanted)), item) {
            (Some(Value::Object(other)), Value::Object(item)) => {
                *other = merge_maps(&element, std::mem::take(other), item)?;
            }
            (_, item) => held.push(plain(item)),
        }
    }
    Ok(ordered(held, &before, &order, key))
}

enum ListDirective {
    Replace,
    Delete,
}

fn directive_of(item: &Value) -> Result<Option<ListDirective>, PatchError> {
    match item.get(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(directive)) if directive == "replace" => Ok(Some(ListDirective::Replace)),
        Some(Value::String(directive)) if directive == "delete" => Ok(Some(ListDirective::Delete)),
        Some(Value::String(directive)) if directive == "merge" => {
            Err(PatchError::Unprocessable("merging lists cannot yet be specified in the patch".into()))
        }
        Some(_) => Err(unknown_directive(item)),
    }
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    item.get(key)
        .filter(|value| !value.is_null())
        .ok_or_else(|| malformed(&format!("map: {} does not contain declared merge key: {key}", golang::printed(item))))
}

/// Whether two elements, or an element and an entry of an order, are the same one.
fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

/// Elements of a patch must come in the order that goes with it.
fn check_order(patched: &[Value], order: &[Value], key: &str, name: &str) -> Result<(), PatchError> {
    let mut places = order.iter();
    if patched.iter().all(|item| places.any(|place| same(item, place, key))) {
        return Ok(());
    }
    Err(PatchError::Unprocessable(format!(
        "The order in patch list:\n{}\n doesn't match {SET_ORDER}{name} list:\n{}\n",
        Value::from(patched),
        Value::from(order)
    )))
}

/// Elements named by `order` in that order, and the rest where the server had them: before the first of the others
/// that they stood before.
fn ordered(items: Vec<Value>, before: &[Value], order: &[Value], key: &str) -> Vec<Value> {
    let rank = |item: &Value| order.iter().position(|other| same(item, other, key));
    let place = |item: &Value| before.iter().position(|other| same(item, other, key));
    let (mut named, unnamed): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| rank(item).is_some());
    named.sort_by_cached_key(|item| rank(item));
    let mut merged = Vec::with_capacity(named.len() + unnamed.len());
    let (mut named, mut unnamed) = (named.into_iter().peekable(), unnamed.into_iter().peekable());
    loop {
        let named_first = match (named.peek(), unnamed.peek()) {
            (None, None) => return merged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => matches!((place(left), place(right)), (Some(l), Some(r)) if l < r),
        };
        merged.extend(if named_first { named.next() } else { unnamed.next() });
    }
}

/// A value that meets nothing to merge with: its directives have nothing to act on, its nulls nothing to delete.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives(fields)),
        Value::Array(items) => {
            let kept = items.into_iter().filter(|item| item.get(DIRECTIVE).is_none());
            Value::Array(kept.map(plain).collect())
        }
        scalar => scalar,
    }
}

fn without_directives(fields: Fields) -> Fields {
    let is_directive = |name: &str| {
        name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER)
    };
    let kept = fields.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    kept.map(|(name, value)| (name, plain(value))).collect()
}

fn malformed(message: &str) -> PatchError {
    PatchError::Malformed(message.into())
}

fn unknown_directive(of: &Value) -> PatchError {
    malformed(&format!("unknown patch type: {} in map: {}", golang::printed(&of[DIRECTIVE]), golang::printed(of)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    fn patched(document: &Value, patch: &Value) -> Result<Value, PatchError> {
        let pod = kinds::by_kind("", "v1", "Pod").expect("a served kind");
        strategic_patch(pod, document, &serde_json::to_vec(patch).expect("a JSON value"))
    }

    fn spec(containers: Value) -> Value {
        json!({ "spec": { "containers": containers } })
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let cases = [
            // The example of "Update API Objects in Place Using kubectl patch".
            (
                spec(json!([{"name": "demo", "image": "nginx"}])),
                spec(json!([{"name": "demo-2", "image": "redis"}])),
                spec(json!([{"name": "demo", "image": "nginx"}, {"name": "demo-2", "image": "redis"}])),
            ),
            (
                spec(json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}])),
                spec(json!([{"name": "a", "image": "3", "args": null}])),
                spec(json!([{"name": "a", "image": "3"}, {"name": "b", "image": "2"}])),
            ),
            // The directives of the strategic merge patch documentation.
            (
                spec(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
                spec(json!([{"$patch": "delete", "name": "a"}])),
                spec(json!([{"name": "b", "image": "2"}])),
            ),
            (
                spec(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
                spec(json!([{"name": "c", "image": "3"}, {"$patch": "replace"}])),
                spec(json!([{"name": "c", "image": "3"}])),
            ),
            // What `kubectl apply` sends when a file has lost its container "a".
            (
                spec(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])),
                json!({"spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                    "containers": [{"$patch": "delete", "name": "a"}],
                }}),
                spec(json!([{"name": "c"}, {"name": "b"}])),
            ),
            (
                spec(json!([{"name": "a"}, {"name": "injected"}, {"name": "b"}])),
                json!({"spec": {
                    "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "new"}],
                    "containers": [{"name": "new"}],
                }}),
                spec(json!([{"name": "injected"}, {"name": "b"}, {"name": "a"}, {"name": "new"}])),
            ),
            // Ports are told apart by their number alone.
            (
                spec(
                    json!([{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]}]),
                ),
                spec(json!([{"name": "a", "ports": [{"containerPort": 80, "$patch": "delete"}]}])),
                spec(json!([{"name": "a", "ports": [{"containerPort": 81}]}])),
            ),
            // Lists without a strategy are replaced.
            (
                spec(json!([{"name": "a", "command": ["x", "y"]}])),
                spec(json!([{"name": "a", "command": ["z"]}])),
                spec(json!([{"name": "a", "command": ["z"]}])),
            ),
            // Scalars merge as a set, and are deleted by name.
            (
                json!({"metadata": {"finalizers": ["a/1", "b/2"]}}),
                json!({"metadata": {"finalizers": ["c/3"], "$deleteFromPrimitiveList/finalizers": ["a/1"]}}),
                json!({"metadata": {"finalizers": ["b/2", "c/3"]}}),
            ),
            (
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
                json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
            ),
            (
                json!({"metadata": {"labels": {"a": "1"}}}),
                json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
                json!({"metadata": {"labels": {"c": "3"}}}),
            ),
            (
                json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
                json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
                json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
            ),
            (
                json!({"spec": {"securityContext": {"runAsUser": 1}}}),
                json!({"spec": {"securityContext": {"$patch": "delete"}}}),
                json!({"spec": {"securityContext": {}}}),
            ),
            (
                json!({}),
                json!({"spec": {"nodeName": null, "tolerations": [{"key": "a", "value": null}]}}),
                json!({"spec": {"tolerations": [{"key": "a"}]}}),
            ),
        ];
        for (document, patch, expected) in cases {
            assert_eq!(patched(&document, &patch), Ok(expected.clone()), "{document} with {patch}");
            assert_eq!(patched(&expected, &patch), Ok(expected), "{patch} again");
        }
    }

    #[test]
    fn what_kubectl_computes_for_lost_containers_and_ports_removes_them() {
        let deployment = kinds::by_kind("apps", "v1", "Deployment").expect("a served kind");
        let of = |containers: Value| json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        let document = of(json!([
            { "name": "a", "image": "x", "ports": [{ "containerPort": 80, "protocol": "TCP" }, { "containerPort": 81 }] },
            { "name": "b", "image": "y" },
        ]));
        // The body that `kubectl apply` 1.32 sent when "b" and port 81 were gone from the file.
        let patch = br#"{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[
            {"$setElementOrder/ports":[{"containerPort":80}],"name":"a","ports":[{"$patch":"delete","containerPort":81}]},
            {"$patch":"delete","name":"b"}]}}}}"#;
        let ports = json!([{ "containerPort": 80, "protocol": "TCP" }]);
        let expected = of(json!([{ "name": "a", "image": "x", "ports": ports }]));
        assert_eq!(strategic_patch(deployment, &document, patch), Ok(expected));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases = [
            (
                spec(json!([{"image": "x"}])),
                PatchError::Malformed("map: map[image:x] does not contain declared merge key: name".into()),
            ),
            (
                json!({"metadata": {"$patch": "shred"}}),
                PatchError::Malformed("unknown patch type: shred in map: map[$patch:shred]".into()),
            ),
            (
                json!({"metadata": {"$setElementOrder/finalizers": 1}}),
                PatchError::Malformed("invalid patch format of setElementOrder list".into()),
            ),
            (
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": {}}}),
                PatchError::Malformed("invalid patch format of primitive list".into()),
            ),
            (
                json!({"spec": {"$retainKeys": ["a"], "b": 1}}),
                PatchError::Malformed("invalid patch format of retainKeys".into()),
            ),
            (
                json!([]),
                PatchError::Malformed(
                    "json: cannot unmarshal array into Go value of type map[string]interface {}".into(),
                ),
            ),
        ];
        for (patch, expected) in cases {
            assert_eq!(patched(&json!({"metadata": {}, "spec": {}}), &patch), Err(expected), "{patch}");
        }
    }
}
