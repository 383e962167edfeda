//! Registries: where an image may be fetched from, with which credentials and certificates.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use crate::engine::{Error, Result};
use crate::images::reference::{DEFAULT_REGISTRY, Reference};
use crate::spec::Auth;

/// Where docker.io's API really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Where docker looks for a registry's own certificate authorities.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// One place to fetch from.
pub struct Endpoint {
    /// `host:port`.
    pub host: String,
    pub client: Client,
    pub auth: RegistryAuth,
}

impl Endpoint {
    /// The image's name at this place.
    pub fn image(&self, reference: &Reference) -> oci_client::Reference {
        let host = self.host.clone();
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => oci_client::Reference::with_digest(host, reference.repository.clone(), digest.clone()),
            (None, tag) => {
                let tag = tag.clone().unwrap_or_else(|| "latest".into());
                oci_client::Reference::with_tag(host, reference.repository.clone(), tag)
            }
        }
    }
}

/// How a registry is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tls,
    /// Whoever answers is believed.
    AnyTls,
    Plain,
}

/// Mirrors first, then the registry itself. Credentials go to the registry alone, never to a mirror of it.
pub fn endpoints(reference: &Reference, auth: &Auth, mirrors: &BTreeMap<String, Vec<String>>) -> Result<Vec<Endpoint>> {
    let mut found = Vec::new();
    for url in mirrors.get(&reference.registry).into_iter().flatten() {
        let (scheme, host) = url
            .split_once("://")
            .ok_or_else(|| Error::Invalid(format!("mirror {url:?} of {} is not a URL", reference.registry)))?;
        let host = host.trim_end_matches('/').to_owned();
        let client = client(&host, if scheme == "http" { Transport::Plain } else { Transport::Tls })?;
        found.push(Endpoint { host, client, auth: RegistryAuth::Anonymous });
    }
    let host = if reference.registry == DEFAULT_REGISTRY { DOCKER_HUB } else { &reference.registry };
    let auth = match auth {
        Auth::Anonymous => RegistryAuth::Anonymous,
        Auth::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.clone()),
        Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
    };
    // In Docker's order.
    let transports: &[_] = if is_loopback(host) { &[Transport::AnyTls, Transport::Plain] } else { &[Transport::Tls] };
    for transport in transports {
        found.push(Endpoint { host: host.into(), client: client(host, *transport)?, auth: auth.clone() });
    }
    Ok(found)
}

/// Docker takes registries on 127.0.0.0/8 and `localhost` for insecure ones without being told to.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn client(host: &str, transport: Transport) -> Result<Client> {
    let protocol = match transport {
        Transport::Plain => ClientProtocol::HttpsExcept(vec![host.into()]),
        Transport::Tls | Transport::AnyTls => ClientProtocol::Https,
    };
    let config = ClientConfig {
        protocol,
        accept_invalid_certificates: transport == Transport::AnyTls,
        extra_root_certificates: own_authorities(&Path::new(CERTIFICATES).join(host)),
        connect_timeout: Some(Duration::from_secs(30)),
        // Between two pieces of data, not for a whole layer.
        read_timeout: Some(Duration::from_secs(60)),
        user_agent: concat!("tug/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config)
        .map_err(|error| Error::Failed { step: "making a registry client", message: error.to_string() })
}

fn own_authorities(directory: &Path) -> Vec<Certificate> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let files = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "crt"));
    files.filter_map(|p| Some(Certificate { encoding: CertificateEncoding::Pem, data: fs::read(p).ok()? })).collect()
}

/// A registry's refusal as the docker daemon words it.
pub fn explain(reference: &Reference, host: &str, error: OciDistributionError) -> Error {
    let denied = || {
        Error::NotFound(format!(
            "pull access denied for {}, repository does not exist or may require 'docker login'",
            reference.familiar_name()
        ))
    };
    let unknown =
        || Error::NotFound(format!("manifest for {} not found: manifest unknown: manifest unknown", shown(reference)));
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => unknown(),
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => denied(),
        OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first().map(|e| &e.code) {
            Some(OciErrorCode::ManifestUnknown | OciErrorCode::NotFound) => unknown(),
            Some(OciErrorCode::NameUnknown | OciErrorCode::Denied | OciErrorCode::Unauthorized) => denied(),
            _ => failed(host, envelope),
        },
        OciDistributionError::ServerError { code: 404, .. } => unknown(),
        OciDistributionError::RequestError(error) => failed(host, root_cause(&error)),
        other => failed(host, other),
    }
}

fn shown(reference: &Reference) -> String {
    let name = reference.familiar_name();
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, Some(tag)) => format!("{name}:{tag}"),
        (None, None) => name,
    }
}

fn failed(host: &str, what: impl std::fmt::Display) -> Error {
    Error::Failed { step: "pulling", message: format!("registry {host}: {what}") }
}

/// The client's own words name the URL only; why it failed is at the bottom.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}
