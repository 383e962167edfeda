//! Settings that stay secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::config_map::{MOST_BYTES, immutable};
use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::golang;
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{invalid, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{drop_field, entries, fill, sub, text};
use crate::names;

pub static SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Type", "What its keys are for."),
        Column::text("Data", "How many keys it has."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    selectable: |object| vec![("type", text(object, "/type").to_owned())],
    selectable_names: &["type"],
    schema: schema_of::<Secret>,
    acted_on: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(object),
        text(object, "/type").into(),
        entries(object, "/data").count().into(),
        age_of(object, now),
    ]
}

fn default(object: &mut Value) {
    fill(object, "type", "Opaque");
    let Some(strings) = object.get("stringData").and_then(Value::as_object).cloned() else { return };
    drop_field(object, "stringData");
    let Some(data) = sub(object, "data") else { return };
    for (key, value) in strings {
        data[key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

const ACCOUNT: &str = "kubernetes.io/service-account.name";

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut bytes = 0;
    for (key, value) in entries(object, "/data") {
        invalid(&mut errors, &format!("data[{key}]"), key, names::config_map_key(key));
        bytes += value.as_str().map_or(0, str::len) / 4 * 3;
    }
    if bytes > MOST_BYTES {
        errors.push(FieldError::too_long("data", MOST_BYTES));
    }
    let data = object.get("data").unwrap_or(&Value::Null);
    let missing = |key: &str| data.get(key).is_none();
    match text(object, "/type") {
        "kubernetes.io/service-account-token" => {
            let account = object.pointer("/metadata/annotations").and_then(|held| held.get(ACCOUNT));
            if account.and_then(Value::as_str).unwrap_or_default().is_empty() {
                errors.push(FieldError::required(format!("metadata.annotations[{ACCOUNT}]"), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_at(&mut errors, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_at(&mut errors, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            errors.push(FieldError::required("data[username]", ""));
            errors.push(FieldError::required("data[password]", ""));
        }
        "kubernetes.io/ssh-auth" if text(data, "/ssh-privatekey").is_empty() => {
            errors.push(FieldError::required("data[ssh-privatekey]", ""));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if missing(key) {
                    errors.push(FieldError::required(format!("data[{key}]"), ""));
                }
            }
        }
        _ => {}
    }
    if let Some(old) = old {
        unchanged(&mut errors, "type", object, old, "/type");
        immutable(&mut errors, object, old, &["data"]);
    }
    errors
}

/// A registry's credentials have to be JSON.
fn json_at(errors: &mut FieldErrors, data: &Value, key: &str) {
    let path = format!("data[{key}]");
    let Some(encoded) = data.get(key).and_then(Value::as_str) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    if let Some(error) = golang::unmarshal_error(&decoded, Value::is_object, "map[string]interface {}") {
        errors.push(FieldError::invalid(path, &"<secret contents redacted>".into(), &error));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_become_data() {
        let mut object = json!({"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "ZA=="}});
        default(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}));
    }

    #[test]
    fn each_type_needs_its_keys() {
        let cases: [(Value, &[&str]); 5] = [
            (json!({"type": "Opaque", "data": {"a": "Yg=="}}), &[]),
            (json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), &["data[tls.key]: Required value"]),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}}), &[]),
            (json!({"type": "kubernetes.io/dockerconfigjson"}), &["data[.dockerconfigjson]: Required value"]),
        ];
        for (object, expected) in cases {
            let wrong: Vec<String> = validate(&object, None).iter().map(ToString::to_string).collect();
            assert_eq!(wrong, expected, "{object}");
        }
    }

    #[test]
    fn an_immutable_secret_stays() {
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "Yg=="}});
        let new = json!({"type": "Opaque", "immutable": true, "data": {"a": "Yw=="}});
        let wrong: Vec<String> = validate(&new, Some(&old)).iter().map(ToString::to_string).collect();
        assert_eq!(wrong, ["data: Forbidden: field is immutable when `immutable` is set"]);
    }
}
