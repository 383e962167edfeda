//! A wish for a certificate.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::kind::{Kind, NameRule, Subresource};
use crate::kinds::part::{schema_of, subresources, verbs};

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
    schema: schema_of::<CertificateSigningRequest>,
    names: NameRule::PathSegment,
    ..Kind::NONE
};
