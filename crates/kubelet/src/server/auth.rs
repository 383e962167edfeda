//! Who may talk to the kubelet: holders of a certificate that the cluster's CA signed, of the right name or group.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::kubelet::{Config, Error};

/// kubeadm's name for the API server as a client of kubelets.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// An authenticated caller: common name and organizations of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub groups: Vec<String>,
}

impl Caller {
    /// Exec is as good as root on the node: only the control plane may.
    pub fn may_use_kubelet(&self) -> bool {
        self.name == API_SERVER || self.groups.iter().any(|group| group == MASTERS)
    }
}

/// TLS that takes certificates of the client CA; who has none gets an answer, 401, and not a broken connection.
pub fn server_config(config: &Config) -> Result<ServerConfig, Error> {
    let bad = |what, error: &dyn std::fmt::Display| Error::Certificate { what, message: error.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&config.client_ca_pem) {
        let certificate = certificate.map_err(|error| bad("clients", &error))?;
        roots.add(certificate).map_err(|error| bad("clients", &error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad("clients", &error))?;
    let chain = CertificateDer::pem_slice_iter(&config.serving_cert_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad("serving", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&config.serving_key_pem).map_err(|error| bad("serving", &error))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("serving", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| bad("serving", &error))
}

/// Whose verified certificate came with the connection.
pub fn caller(connection: &ServerConnection) -> Option<Caller> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    Some(Caller { name, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_plane() {
        let cases = [
            (API_SERVER, &[][..], true),
            ("admin", &[MASTERS][..], true),
            ("system:node:n1", &["system:nodes"][..], false),
            ("alice", &[][..], false),
        ];
        for (name, groups, allowed) in cases {
            let caller = Caller { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect() };
            assert_eq!(caller.may_use_kubelet(), allowed, "{name}");
        }
    }
}
