//! Errors as the API answers them: `Status` objects with upstream's codes, reasons and words
//! (`k8s.io/apimachinery/pkg/api/errors`).

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tug_api::{FieldErrors, Kind};

use crate::body::{self, Body};

/// Why a request failed. Small, for it is in every `Result` of the request path.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
}

/// What a client's code reads, where a person reads the message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One of several reasons, usually a field's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `deployments.apps`, or `pods` in the core group: upstream's `GroupResource`.
pub fn group_resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

// === impl Status ===

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// The same, told of another resource, such as `pods/binding`.
    pub fn of(mut self, group: &str, plural: &str) -> Self {
        if let Some(details) = &mut self.details {
            let told = format!("on {} ", group_resource(&details.group, &details.kind));
            self.message = self.message.replacen(&told, &format!("on {} ", group_resource(group, plural)), 1);
            (details.group, details.kind) = (group.into(), plural.into());
        }
        self
    }

    /// The same with another message.
    pub fn saying(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        (details.group, details.kind, details.name) = (group.into(), kind.into(), name.into());
        self
    }

    /// Adds a cause without a field, such as `NamespaceTerminating`.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// `pods "x" not found`.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::not_found_resource(kind.group, kind.plural, name)
    }

    /// The same for a resource that isn't in the table of kinds.
    pub fn not_found_resource(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", group_resource(group, plural));
        Self::new(404, "NotFound", message).about(group, plural, name)
    }

    /// No such path or resource.
    pub fn no_such_path() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", group_resource(kind.group, kind.plural));
        Self::new(409, "AlreadyExists", message).about(kind.group, kind.plural, name)
    }

    /// A generated name was taken, several times over.
    pub fn generated_name_taken(kind: &Kind, name: &str) -> Self {
        let message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            group_resource(kind.group, kind.plural)
        );
        let mut status = Self::new(409, "AlreadyExists", message).about(kind.group, kind.plural, name);
        status.details.get_or_insert_default().retry_after_seconds = 1;
        status
    }

    /// `Operation cannot be fulfilled on pods "x": {why}`.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = group_resource(kind.group, kind.plural);
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(kind.group, kind.plural, name)
    }

    /// Somebody else wrote the object since its reader read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// `pods "x" is forbidden: {why}`; without a name `pods is forbidden: {why}`.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let resource = group_resource(group, plural);
        let message = match (plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(group, plural, name)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// `Pod "x" is invalid: spec.containers: Required value`; several errors are listed in brackets.
    pub fn invalid(kind: &Kind, name: &str, errors: FieldErrors) -> Self {
        Self::invalid_kind(kind.group, kind.kind, name, errors)
    }

    /// The same for kinds that aren't in the table, such as `Scale`.
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: FieldErrors) -> Self {
        // Upstream's aggregate prints each message once, and brackets only around several.
        let mut lines: Vec<String> = Vec::new();
        for line in errors.iter().map(ToString::to_string) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let list = if lines.len() == 1 { lines.remove(0) } else { format!("[{}]", lines.join(", ")) };
        let qualified = group_resource(group, kind);
        let message = if errors.is_empty() {
            format!("{qualified} {name:?} is invalid")
        } else {
            format!("{qualified} {name:?} is invalid: {list}")
        };
        let mut status = Self::new(422, "Invalid", message).about(group, kind, name);
        status.details.get_or_insert_default().causes = errors
            .into_iter()
            .map(|error| Cause { reason: error.kind.reason().into(), message: error.body, field: error.path })
            .collect();
        status
    }

    /// A well-formed request that this object can't take.
    pub fn unprocessable(group: &str, plural: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!(
            "the server rejected our request due to an error in our request{}",
            Some(why.to_string()).filter(|w| !w.is_empty()).map(|w| format!(": {w}")).unwrap_or_default()
        );
        Self::new(422, "Invalid", message).about(group, plural, name)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn method_not_allowed(kind: &Kind, action: &str) -> Self {
        let resource = group_resource(kind.group, kind.plural);
        let message = format!("{action} is not supported on resources of kind {resource:?}");
        Self::new(405, "MethodNotAllowed", message).about(kind.group, kind.plural, "")
    }

    /// A verb that a path doesn't have at all.
    pub fn method_not_allowed_here() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Self::new(405, "MethodNotAllowed", message);
        status.details = Some(Box::default());
        status
    }

    pub fn not_acceptable(supported: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", supported.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// The revision asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A watch can't start that far back.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// A revision that isn't there yet.
    pub fn too_new(asked: u64, newest: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {newest}");
        let mut status = Self::new(504, "Timeout", message);
        status.details = Some(Box::new(Details { retry_after_seconds: 1, ..Details::default() }));
        status.with_cause("ResourceVersionTooLarge", "Too large resource version", "")
    }

    /// `most` in bytes.
    pub fn too_large(most: usize) -> Self {
        let message = format!("Request entity too large: limit is {most}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {error}");
        Self::new(500, "InternalError", message).with_cause("", error.to_string(), "")
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The disk under the store is full: nothing was written.
    pub fn insufficient_storage() -> Self {
        Self::new(507, "InsufficientStorage", "the server's disk is full: nothing was written")
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        status
    }

    /// As the body of an answer, or the object of a watch's `ERROR` event.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            value["details"] = serde_json::to_value(details).unwrap_or_default();
        }
        value
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(body::full(Bytes::from(self.to_value().to_string())));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.details.map(|d| d.retry_after_seconds).filter(|s| *s > 0) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The answer of a delete that leaves nothing to show.
pub fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": Details {
            name: name.into(),
            group: kind.group.into(),
            kind: kind.plural.into(),
            uid: uid.into(),
            ..Details::default()
        },
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
