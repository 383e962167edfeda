//! Bodies to objects: the right kind, no fields that it doesn't have, or upstream's words about what is wrong.

use serde_json::Value;
use tug_api::{Kind, golang, kinds, protobuf, schema};

use super::Call;
use super::options::FieldValidation;
use crate::api::Inbound;
use crate::negotiate::{self, Encoding};
use crate::status::Status;

/// A body as JSON.
pub struct Decoded {
    pub value: Value,
    /// `duplicate field "spec.replicas"`.
    pub duplicates: Vec<String>,
}

impl Call<'_> {
    /// The body as an object of the request's kind; unknown fields become warnings.
    ///
    /// # Errors
    /// 400 for anything else, 413, 415.
    pub async fn decode(&self, body: Inbound) -> Result<Value, Status> {
        self.decode_as(self.kind, body, FieldValidation::Warn).await
    }

    /// The body as an object of `kind`.
    ///
    /// # Errors
    /// 400 for anything else, and under strict validation for unknown fields; 413, 415.
    pub async fn decode_as(
        &self,
        kind: &'static Kind,
        body: Inbound,
        fields: FieldValidation,
    ) -> Result<Value, Status> {
        let encoding = negotiate::body_encoding(self.headers)?;
        self.checked(kind, &body.read().await?, encoding, fields)
    }

    /// Bytes as an object of `kind`.
    ///
    /// # Errors
    /// As [`Call::decode_as`].
    pub fn checked(
        &self,
        kind: &'static Kind,
        bytes: &[u8],
        encoding: Encoding,
        fields: FieldValidation,
    ) -> Result<Value, Status> {
        let Decoded { mut value, duplicates } = parse(bytes, encoding, kind.kind)?;
        identify(kind, &mut value)?;
        let refused = |error: &str| {
            let Kind { kind, version, .. } = kind;
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
        };
        let checked = schema::check(kind, &mut value);
        if let Some(error) = checked.type_error {
            return Err(refused(&error));
        }
        let unknown = [duplicates, checked.unknown].concat();
        match fields {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => unknown.into_iter().for_each(|text| self.warn(text)),
            FieldValidation::Strict if unknown.is_empty() => {}
            FieldValidation::Strict => {
                return Err(refused(&format!("strict decoding error: {}", unknown.join(", "))));
            }
        }
        Ok(value)
    }
}

/// A body as JSON, whichever way it's encoded.
///
/// # Errors
/// 400 in upstream's words; `kind` is what the body was to be.
pub fn parse(bytes: &[u8], encoding: Encoding, kind: &str) -> Result<Decoded, Status> {
    let unusable = |error: String| {
        let shown = golang::summary(bytes);
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {error} ({shown})"))
    };
    let unrecognized = |error: String| unusable(format!("couldn't get version/kind; json parse error: {error}"));
    let decoded = match encoding {
        Encoding::Json => {
            let value =
                serde_json::from_slice(bytes).map_err(|error| unrecognized(golang::syntax_error(bytes, &error)))?;
            Decoded { value, duplicates: schema::duplicate_fields(bytes) }
        }
        Encoding::Yaml => {
            let value = serde_norway::from_slice(bytes);
            let value = value.map_err(|error| unusable(golang::yaml_error(&error.to_string())))?;
            Decoded { value, duplicates: Vec::new() }
        }
        Encoding::Protobuf => {
            let value = protobuf::decode(bytes).map_err(|error| unusable(error.to_string()))?;
            Decoded { value, duplicates: Vec::new() }
        }
    };
    if !decoded.value.is_object() {
        let found = golang::type_name(&decoded.value);
        let error = format!(
            "json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        );
        return Err(unrecognized(error));
    }
    for field in ["apiVersion", "kind"] {
        let found = &decoded.value[field];
        if !found.is_null() && !found.is_string() {
            let error = format!(
                "json: cannot unmarshal {} into Go struct field .{field} of type string",
                golang::type_name(found)
            );
            return Err(unrecognized(error));
        }
    }
    let api_version = decoded.value["apiVersion"].as_str().unwrap_or_default();
    if api_version.matches('/').count() > 1 {
        return Err(unusable(format!("unexpected GroupVersion string: {api_version}")));
    }
    Ok(decoded)
}

/// Sets what the body leaves out of `apiVersion` and `kind`, and refuses what they contradict.
fn identify(kind: &'static Kind, value: &mut Value) -> Result<(), Status> {
    let expected = group_version(kind);
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (mut api_version, mut name) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() {
        api_version = expected.clone();
    }
    if name.is_empty() {
        name = kind.kind.into();
    }
    if api_version == expected && name == kind.kind {
        value["apiVersion"] = api_version.into();
        value["kind"] = name.into();
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let handled = |why: String| {
        let message = format!("{name} in version {version:?} cannot be handled as a {}: {why}", kind.kind);
        Status::bad_request(message)
    };
    let mismatch = || {
        Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        ))
    };
    let unconvertible = || {
        let hub = if kind.group.is_empty() { "core" } else { kind.group.split('.').next().unwrap_or_default() };
        handled(format!("converting ({version}.{name}) to ({hub}.{}): unknown conversion", kind.kind))
    };
    let item = name.strip_suffix("List").unwrap_or_default();
    match kinds::by_kind(group, version, &name) {
        // Upstream still knows the versions that came before the stable ones.
        None if name == kind.kind && (version.contains("alpha") || version.contains("beta")) => Err(mismatch()),
        None if kinds::by_kind(group, version, item).is_some() => Err(unconvertible()),
        None => Err(handled(format!(
            "no kind {name:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        ))),
        Some(found) if found.group == kind.group && found.kind == kind.kind => Err(mismatch()),
        Some(_) => Err(unconvertible()),
    }
}

/// `v1`, `apps/v1`.
pub fn group_version(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.version.into() } else { format!("{}/{}", kind.group, kind.version) }
}
