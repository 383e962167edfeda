//! Requests for certificates.

mod certificate_signing_request;

pub use certificate_signing_request::CERTIFICATE_SIGNING_REQUEST;
