//! What a request's query says besides what it is about; what we can't honour is refused, never ignored.

use serde_json::Value;
use tug_api::FieldErrors;
use tug_api::field::FieldError;

use crate::request::Query;
use crate::status::Status;

/// What is done about fields that a kind doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of a write.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub fields: FieldValidation,
    /// A server-side apply.
    pub applies: bool,
    /// An apply takes over what others manage.
    pub force: bool,
}

impl WriteOptions {
    /// `kind` is what upstream calls these options: `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    ///
    /// # Errors
    /// 422 for values that don't exist.
    pub fn parse(kind: &str, query: &Query) -> Result<Self, Status> {
        Self::parse_for(kind, query, false)
    }

    /// Those of a server-side apply.
    ///
    /// # Errors
    /// The same, and 422 without a `fieldManager`.
    pub fn parse_apply(query: &Query) -> Result<Self, Status> {
        Self::parse_for("PatchOptions", query, true)
    }

    fn parse_for(kind: &str, query: &Query, applies: bool) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let fields = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", &other.into(), &supported));
                FieldValidation::Warn
            }
        };
        if applies && query.get("fieldManager").is_none() {
            errors.push(FieldError::required("fieldManager", "is required for apply patch"));
        }
        if kind == "PatchOptions" && !applies && query.has("force") {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        if let Some(manager) = query.get("fieldManager") {
            if manager.len() > 128 {
                errors.push(FieldError::too_long("fieldManager", 128));
            }
            if let Some((at, bad)) = manager.char_indices().find(|(_, c)| c.is_control()) {
                let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(bad));
                errors.push(FieldError::invalid("fieldManager", &manager.into(), &detail));
            }
        }
        if errors.is_empty() {
            Ok(Self { dry_run, fields, applies, force: query.flag("force") })
        } else {
            Err(refused(kind, errors))
        }
    }
}

/// True for `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut FieldErrors) -> bool {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", &Value::from(values.clone()), &["All"]));
    }
    !values.is_empty()
}

/// Options that can't be, in upstream's words.
pub fn refused(kind: &str, errors: FieldErrors) -> Status {
    Status::invalid_kind("meta.k8s.io", kind, "", errors)
}
