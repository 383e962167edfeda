//! Errors about one field of an object, in upstream's words
//! (`k8s.io/apimachinery/pkg/util/validation/field`).

use serde_json::Value;

/// Upstream's `ErrorType`: its `reason` in `Status.details.causes` and the words before the detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    InternalError,
    TypeInvalid,
}

impl FieldErrorKind {
    /// `reason` of the cause in a `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::InternalError => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// As upstream prints it: `spec.containers[0].name`, `metadata.labels[foo]`.
    pub path: String,
    pub kind: FieldErrorKind,
    /// The cause's message without the path, such as `Required value: must be set`.
    pub body: String,
}

/// All that is wrong with an object, in the order in which upstream finds it.
pub type FieldErrors = Vec<FieldError>;

impl FieldError {
    pub fn required(path: impl Into<String>, detail: &str) -> Self {
        Self::new(path, FieldErrorKind::Required, with_detail("Required value".into(), detail))
    }

    pub fn invalid(path: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(path, FieldErrorKind::Invalid, with_detail(format!("Invalid value: {}", shown(value)), detail))
    }

    pub fn duplicate(path: impl Into<String>, value: &Value) -> Self {
        Self::new(path, FieldErrorKind::Duplicate, format!("Duplicate value: {}", shown(value)))
    }

    pub fn not_found(path: impl Into<String>, value: &Value) -> Self {
        Self::new(path, FieldErrorKind::NotFound, format!("Not found: {}", shown(value)))
    }

    pub fn forbidden(path: impl Into<String>, detail: &str) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, with_detail("Forbidden".into(), detail))
    }

    /// `supported` in the order to print them (upstream sorts them).
    pub fn not_supported(path: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let body = format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", "));
        Self::new(path, FieldErrorKind::NotSupported, body)
    }

    pub fn too_long(path: impl Into<String>, most_bytes: usize) -> Self {
        let body = format!("Too long: may not be more than {most_bytes} bytes");
        Self::new(path, FieldErrorKind::TooLong, body)
    }

    pub fn too_many(path: impl Into<String>, actual: usize, most: usize) -> Self {
        let body = format!("Too many: {actual}: must have at most {most} items");
        Self::new(path, FieldErrorKind::TooMany, body)
    }

    fn new(path: impl Into<String>, kind: FieldErrorKind, body: String) -> Self {
        Self { path: path.into(), kind, body }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

fn with_detail(head: String, detail: &str) -> String {
    if detail.is_empty() { head } else { format!("{head}: {detail}") }
}

/// A value as upstream's errors print it: strings quoted, scalars bare, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        other => other.to_string(),
    }
}
