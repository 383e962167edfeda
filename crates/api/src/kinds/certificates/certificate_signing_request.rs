//! A wish for a certificate.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::Value;

use crate::columns::{age_of, human_duration};
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind, NameRule, Subresource};
use crate::kinds::cells::{self, NONE};
use crate::kinds::check::required;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{int, list, some, text};

pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[
        Subresource { name: "approval", kind: "CertificateSigningRequest", group_version: None, verbs: verbs::CHANGE },
        subresources::status("CertificateSigningRequest"),
    ],
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who should sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "For how long."),
        Column::text("Condition", "Where the request stands."),
    ],
    row,
    validate,
    selectable: |object| vec![("spec.signerName", text(object, "/spec/signerName").to_owned())],
    selectable_names: &["spec.signerName"],
    schema: schema_of::<CertificateSigningRequest>,
    names: NameRule::PathSegment,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let lasting = int(object, "/spec/expirationSeconds").and_then(|seconds| u64::try_from(seconds).ok());
    let lasting = lasting.map_or(NONE.to_owned(), |seconds| human_duration(Duration::from_secs(seconds)));
    vec![
        cells::name(object),
        age_of(object, now),
        text(object, "/spec/signerName").into(),
        text(object, "/spec/username").into(),
        lasting.into(),
        condition(object).into(),
    ]
}

fn condition(object: &Value) -> String {
    let is =
        |r#type: &str| list(object, "/status/conditions").iter().any(|condition| text(condition, "/type") == r#type);
    let mut status = match () {
        () if is("Denied") => "Denied",
        () if is("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if is("Failed") {
        status.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    status
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, "spec.request", text(object, "/spec/request"));
    if list(object, "/spec/usages").is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    let signer = text(object, "/spec/signerName");
    required(&mut errors, "spec.signerName", signer);
    if !signer.is_empty() && !signer.contains('/') {
        errors.push(FieldError::invalid(
            "spec.signerName",
            &signer.into(),
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ));
    }
    if let Some(seconds) = int(object, "/spec/expirationSeconds")
        && seconds < 600
    {
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            &seconds.into(),
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    if let Some(old) = old
        && some(object, "/spec") != some(old, "/spec")
    {
        errors.push(FieldError::invalid(
            "spec",
            object.get("spec").unwrap_or(&Value::Null),
            crate::kinds::check::IMMUTABLE,
        ));
    }
    errors
}
