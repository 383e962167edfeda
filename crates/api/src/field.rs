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
        let list: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
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
        Value::String(s) => quoted(s),
        other => other.to_string(),
    }
}

/// A text as Go's `%q` prints it.
pub fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\u{7}' => shown.push_str("\\a"),
            '\u{8}' => shown.push_str("\\b"),
            '\u{b}' => shown.push_str("\\v"),
            '\u{c}' => shown.push_str("\\f"),
            c if c.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Rust escapes what isn't printable, in a form of its own.
            c if c.escape_debug().count() > 1 && c != '\'' && u32::from(c) > 0xffff => {
                shown.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c if c.escape_debug().count() > 1 && c != '\'' => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does() {
        // `fmt.Printf("%q")`.
        let cases = [
            ("it's", r#""it's""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\u{1}\u{7f}", r#""\n\t\x01\x7f""#),
            ("é日", r#""é日""#),
            ("\u{ad}\u{200b}", r#""\u00ad\u200b""#),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
    }
}
