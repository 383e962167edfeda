//! `metadata`: checked on create and on update in upstream's words, and the names that the server makes up
//! (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldErrors};
use crate::kind::{Kind, NameRule};
use crate::names;

/// All annotations of an object together.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 << 10;
/// What a generated suffix is made of: no vowels, so that no word comes out, and nothing that looks like another letter.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const IMMUTABLE: &str = "field is immutable";

/// `metadata` of an object about to be made. Call it after `generateName` was turned into a name.
pub fn validate_create(kind: &Kind, object: &Value) -> FieldErrors {
    let empty = Map::new();
    let metadata = metadata_of(object, &empty);
    let mut errors = FieldErrors::new();
    let base = text(metadata, "generateName");
    if !base.is_empty() {
        for wrong in name_errors(kind.names, &masked(base)) {
            errors.push(FieldError::invalid("metadata.generateName", &base.into(), &wrong));
        }
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    }
    if !name.is_empty() {
        for wrong in name_errors(kind.names, name) {
            errors.push(FieldError::invalid("metadata.name", &name.into(), &wrong));
        }
    }
    errors.extend(namespace_errors(kind, text(metadata, "namespace")));
    if let Some(generation) = metadata.get("generation").filter(|g| g.as_i64().is_some_and(|g| g < 0)) {
        errors.push(FieldError::invalid("metadata.generation", generation, "must be greater than or equal to 0"));
    }
    errors.extend(common_errors(metadata));
    errors.extend(finalizer_errors(metadata));
    errors
}

/// `metadata` of an object about to replace `old`. Fields that `object` leaves out are taken to be kept.
pub fn validate_update(kind: &Kind, object: &Value, old: &Value) -> FieldErrors {
    let empty = Map::new();
    let (metadata, before) = (metadata_of(object, &empty), metadata_of(old, &empty));
    let mut errors = FieldErrors::new();
    if before.contains_key("deletionTimestamp") {
        let held: Vec<&str> = strings(before, "finalizers").collect();
        let mut added: Vec<&str> = strings(metadata, "finalizers").filter(|f| !held.contains(f)).collect();
        added.sort_unstable();
        if !added.is_empty() {
            // Upstream prints the Go value.
            let listed: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                listed.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let Some(value) = metadata.get(field) else { continue };
        let was = before.get(field).unwrap_or(&Value::Null);
        let both_empty = value.as_str() == Some("") && was.is_null();
        if value != was && !both_empty {
            errors.push(FieldError::invalid(format!("metadata.{field}"), value, IMMUTABLE));
        }
    }
    if !kind.namespaced {
        errors.extend(namespace_errors(kind, text(metadata, "namespace")));
    }
    errors.extend(common_errors(metadata));
    // Upstream doesn't check old finalizers again; new ones must be well-formed all the same.
    if metadata.get("finalizers") != before.get("finalizers") {
        errors.extend(finalizer_errors(metadata));
    }
    errors
}

/// `base` (cut to fit) and five characters drawn from upstream's alphabet by `random`.
pub fn generate_name(base: &str, random: [u8; 5]) -> String {
    let mut most = names::LABEL_MAX - random.len();
    while !base.is_char_boundary(most.min(base.len())) {
        most -= 1;
    }
    let kept = &base[..most.min(base.len())];
    let suffix = random.iter().map(|byte| char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()]));
    kept.chars().chain(suffix).collect()
}

/// What is wrong with a name under a kind's rule.
pub fn name_errors(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::DnsSubdomain => names::dns1123_subdomain(name),
        NameRule::DnsLabel => names::dns1123_label(name),
        NameRule::Dns1035Label => names::dns1035_label(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

/// What is wrong with a set of labels, at `path`.
pub fn label_errors(labels: &Map<String, Value>, path: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (key, value) in labels {
        errors.extend(names::qualified_name(key).iter().map(|w| FieldError::invalid(path, &key.as_str().into(), w)));
        let wrong = names::label_value(value.as_str().unwrap_or_default());
        errors.extend(wrong.iter().map(|w| FieldError::invalid(path, value, w)));
    }
    errors
}

/// A generated name's base may end with a dash: what follows it will not be one.
fn masked(base: &str) -> String {
    match base.strip_suffix('-') {
        Some(kept) if !kept.is_empty() => format!("{kept}a"),
        _ => base.to_owned(),
    }
}

fn namespace_errors(kind: &Kind, namespace: &str) -> FieldErrors {
    match (kind.namespaced, namespace) {
        (true, "") => vec![FieldError::required("metadata.namespace", "")],
        (true, name) => {
            let wrong = names::dns1123_label(name);
            wrong.iter().map(|w| FieldError::invalid("metadata.namespace", &name.into(), w)).collect()
        }
        (false, "") => Vec::new(),
        (false, _) => vec![FieldError::forbidden("metadata.namespace", "not allowed on this type")],
    }
}

/// Labels, annotations and owners: the same rules whenever an object is written.
fn common_errors(metadata: &Map<String, Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(labels) = metadata.get("labels").and_then(Value::as_object) {
        errors.extend(label_errors(labels, "metadata.labels"));
    }
    if let Some(annotations) = metadata.get("annotations").and_then(Value::as_object) {
        for key in annotations.keys() {
            // The rule is that of labels except that case doesn't matter.
            let wrong = names::qualified_name(&key.to_lowercase());
            let invalid = |w| FieldError::invalid("metadata.annotations", &key.as_str().into(), w);
            errors.extend(wrong.iter().map(|w| invalid(w)));
        }
        let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
        if bytes > ANNOTATIONS_MAX_BYTES {
            errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_MAX_BYTES));
        }
    }
    errors.extend(owner_errors(metadata));
    errors
}

fn owner_errors(metadata: &Map<String, Value>) -> FieldErrors {
    let Some(owners) = metadata.get("ownerReferences") else { return Vec::new() };
    let mut errors = FieldErrors::new();
    let mut first_controller: Option<String> = None;
    // Upstream says which field is wrong, but not of which owner.
    let path = "metadata.ownerReferences";
    for owner in owners.as_array().into_iter().flatten().filter_map(Value::as_object) {
        let api_version = text(owner, "apiVersion");
        let version = match api_version.split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] => version,
            _ => "",
        };
        if version.is_empty() {
            let field = format!("{path}.apiVersion");
            errors.push(FieldError::invalid(field, &api_version.into(), "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.push(FieldError::invalid(format!("{path}.{field}"), &"".into(), "must not be empty"));
            }
        }
        if api_version == "v1" && text(owner, "kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, &Value::Object(owner.clone()), detail));
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let controller = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        match &first_controller {
            None => first_controller = Some(controller),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. \
                     Found \"true\" in references for {first} and {controller}"
                );
                errors.push(FieldError::invalid(path, owners, &detail));
            }
        }
    }
    errors
}

fn finalizer_errors(metadata: &Map<String, Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for finalizer in strings(metadata, "finalizers") {
        let wrong = names::qualified_name(finalizer);
        errors.extend(wrong.iter().map(|w| FieldError::invalid("metadata.finalizers", &finalizer.into(), w)));
    }
    for (index, finalizer) in strings(metadata, "finalizers").enumerate() {
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{index}]"), &finalizer.into(), detail));
        }
    }
    let has = |name| strings(metadata, "finalizers").any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let both = metadata.get("finalizers").unwrap_or(&Value::Null);
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", both, detail));
    }
    errors
}

fn metadata_of<'a>(object: &'a Value, empty: &'a Map<String, Value>) -> &'a Map<String, Value> {
    object.get("metadata").and_then(Value::as_object).unwrap_or(empty)
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn strings<'a>(fields: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a str> {
    fields.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMESPACED: Kind = Kind { namespaced: true, ..Kind::NONE };

    fn shown(errors: &FieldErrors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn metadata_is_checked_in_upstreams_words() {
        let label = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let cases = [
            (json!({"name": "a", "namespace": "b"}), vec![]),
            (json!({"namespace": "b"}), vec!["metadata.name: Required value: name or generateName is required".into()]),
            (json!({"name": "A_b", "namespace": "b"}), vec![format!("metadata.name: Invalid value: \"A_b\": {label}")]),
            (json!({"name": "a"}), vec!["metadata.namespace: Required value".into()]),
            (
                json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x"}]}),
                vec!["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty".into()],
            ),
            (
                json!({"name": "a", "namespace": "b", "annotations": {"X-Y": "a".repeat(ANNOTATIONS_MAX_BYTES)}}),
                vec!["metadata.annotations: Too long: may not be more than 262144 bytes".into()],
            ),
            (
                json!({"name": "a", "namespace": "b", "finalizers": ["orphan", "foregroundDeletion"]}),
                vec![
                    "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                     foregroundDeletion cannot be both set"
                        .into(),
                ],
            ),
            (json!({"name": "a", "namespace": "b", "generateName": "x-"}), vec![]),
        ];
        for (metadata, expected) in cases {
            assert_eq!(shown(&validate_create(&NAMESPACED, &json!({ "metadata": metadata }))), expected, "{metadata}");
        }
        let labels = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"a": "b c"}}});
        assert!(shown(&validate_create(&NAMESPACED, &labels))[0].starts_with(
            "metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric"
        ));
    }

    #[test]
    fn identity_never_changes() {
        let old = json!({"metadata": {"name": "a", "namespace": "b", "uid": "1", "deletionTimestamp": "t"}});
        let cases = [
            (json!({"name": "a", "namespace": "b", "uid": "1"}), vec![]),
            (json!({"name": "a", "namespace": "b"}), vec![]),
            (json!({"uid": "2"}), vec!["metadata.uid: Invalid value: \"2\": field is immutable".to_owned()]),
            (json!({"name": "c"}), vec!["metadata.name: Invalid value: \"c\": field is immutable".to_owned()]),
            (
                json!({"finalizers": ["x/y"]}),
                vec![
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
                     found new finalizers []string{\"x/y\"}"
                        .to_owned(),
                ],
            ),
        ];
        for (metadata, expected) in cases {
            assert_eq!(shown(&validate_update(&NAMESPACED, &json!({ "metadata": metadata }), &old)), expected);
        }
    }

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generate_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
        assert_eq!(generate_name(&"x".repeat(80), [0; 5]).len(), names::LABEL_MAX);
        assert_eq!(generate_name(&"é".repeat(40), [0; 5]).len(), 58 + 5);
    }
}
