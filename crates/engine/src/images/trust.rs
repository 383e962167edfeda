//! Whom a registry's client believes and whom it says it is: the host's authorities as Go's programs find them, and a
//! registry's own certificates in `/etc/docker/certs.d` by Docker's rules.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::engine::{Error, Result};

/// Of Go's `crypto/x509` on Linux: of the files the first that is there, of the directories all.
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const DIRECTORIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// How TLS is spoken with a registry whose own certificates are in `own`, if it has any. Blocks.
///
/// # Errors
/// A client's certificate without its key, or the other way round, in Docker's words; unreadable ones.
pub fn tls(own: &Path) -> Result<ClientConfig> {
    let mut trusted = host_authorities(|name| std::env::var(name).ok());
    let own = Own::read(own)?;
    trusted.extend(own.authorities);
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Verifier::of(trusted)));
    Ok(with_protocols(builder.with_client_cert_resolver(Arc::new(Clients(own.keys)))))
}

/// As [`tls`], but whoever answers is believed.
pub fn any_tls() -> ClientConfig {
    let verifier = Verifier { trusted: None, provider: Arc::new(rustls::crypto::ring::default_provider()) };
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    with_protocols(builder.with_no_client_auth())
}

fn with_protocols(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// `SSL_CERT_FILE` stands for the files, `SSL_CERT_DIR` (several, with colons) for the directories.
fn host_authorities(variable: impl Fn(&str) -> Option<String>) -> HashSet<CertificateDer<'static>> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let files = match given("SSL_CERT_FILE") {
        Some(file) => vec![PathBuf::from(file)],
        None => FILES.iter().map(PathBuf::from).collect(),
    };
    let directories: Vec<PathBuf> = match given("SSL_CERT_DIR") {
        Some(list) => list.split(':').map(PathBuf::from).collect(),
        None => DIRECTORIES.iter().map(PathBuf::from).collect(),
    };
    let file = files.iter().find_map(|file| fs::read(file).ok());
    let mut found: HashSet<_> = file.map(certificates).unwrap_or_default().into_iter().collect();
    for entry in directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        found.extend(fs::read(entry.path()).map(certificates).unwrap_or_default());
    }
    found
}

/// Those that can be read, as Go has it: one that can't does not take the others away.
fn certificates(pem: Vec<u8>) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&pem).flatten().collect()
}

/// What is in a registry's directory.
#[derive(Default)]
struct Own {
    authorities: Vec<CertificateDer<'static>>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Own {
    fn read(directory: &Path) -> Result<Self> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| Error::Failed {
            step: "reading a registry's certificates",
            message: format!("{}: {error}", path.display()),
        };
        let mut files = match fs::read_dir(directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => Err(error),
        }
        .map_err(|error| failed(directory, &error))?;
        files.sort();
        let mut own = Self::default();
        for path in &files {
            let named = |extension: &str| path.with_extension(extension);
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let pem = fs::read(path).map_err(|error| failed(path, &error))?;
                    own.authorities.extend(certificates(pem));
                }
                Some("cert") if !files.contains(&named("key")) => {
                    return Err(Error::Invalid(format!(
                        "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                        name(&named("key")),
                        name(path)
                    )));
                }
                Some("cert") => own.keys.push(key_pair(path, &named("key")).map_err(|error| failed(path, &error))?),
                Some("key") if !files.contains(&named("cert")) => {
                    let certificate = name(&named("cert"));
                    let message = format!("missing client certificate {certificate} for key {}", name(path));
                    return Err(Error::Invalid(message));
                }
                _ => {}
            }
        }
        Ok(own)
    }
}

fn key_pair(certificate: &Path, key: &Path) -> std::result::Result<Arc<CertifiedKey>, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?))
}

/// Of several certificates the first that an authority of the server's list has made, as Go chooses.
#[derive(Debug)]
struct Clients(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Clients {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let issued = |certificate: &CertificateDer<'_>| {
            X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| hints.contains(&parsed.issuer().as_raw()))
        };
        let fits = |key: &&Arc<CertifiedKey>| {
            key.key.choose_scheme(schemes).is_some() && (hints.is_empty() || key.cert.iter().any(issued))
        };
        self.0.iter().find(fits).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Believes what Go's programs believe: besides what an authority has made also a certificate that is itself among the
/// trusted ones, whatever it says that it may be used for. webpki takes none for a server that may sign others, which is
/// what `openssl req -x509` makes.
#[derive(Debug)]
struct Verifier {
    /// `None`: all are.
    trusted: Option<(HashSet<CertificateDer<'static>>, RootCertStore)>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn of(trusted: HashSet<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        Self { trusted: Some((trusted, roots)), provider: Arc::new(rustls::crypto::ring::default_provider()) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some((trusted, roots)) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        if trusted.contains(certificate) {
            check_use(certificate, now)?;
        } else {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate that is trusted itself is a server's, and now.
fn check_use(certificate: &CertificateDer<'_>, now: UnixTime) -> std::result::Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    match parsed.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.any && !usage.value.server_auth => Err(CertificateError::InvalidPurpose.into()),
        Ok(_) => Ok(()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certificate() -> rcgen::Certificate {
        let key = KeyPair::generate().expect("a key");
        CertificateParams::new([]).expect("no names").self_signed(&key).expect("a certificate")
    }

    #[test]
    fn variables_name_the_hosts_authorities_as_in_go() {
        let work = tempfile::tempdir().expect("a temporary directory");
        let place = |path: &str, made: &[&rcgen::Certificate]| {
            let path = work.path().join(path);
            let text: String = made.iter().map(|made| made.pem()).collect();
            fs::create_dir_all(path.parent().expect("below")).and_then(|()| fs::write(&path, text)).expect("writing");
            path
        };
        let [a, b, c, d] = std::array::from_fn(|_| certificate());
        let file = place("bundle", &[&a, &b]);
        let one = place("one/x.pem", &[&c]);
        let two = place("two/y.0", &[&d]);
        fs::write(work.path().join("two/note"), "no certificate").expect("writing");
        let directories = [&one, &two].map(|path| path.parent().expect("below").display().to_string()).join(":");
        let file = file.display().to_string();
        let given = |file: Option<&str>, directories: Option<&str>| {
            let (file, directories) = (file.map(str::to_owned), directories.map(str::to_owned));
            host_authorities(|name| if name == "SSL_CERT_FILE" { file.clone() } else { directories.clone() })
        };
        let hosts = given(None, None);
        let has = |found: &HashSet<CertificateDer<'static>>, all: &[&rcgen::Certificate]| {
            all.iter().all(|made| found.contains(made.der()))
        };
        let both = given(Some(&file), Some(&directories));
        assert!(has(&both, &[&a, &b, &c, &d]) && both.len() == 4);
        // Either alone leaves the other's default in place.
        let no_directories = given(Some(&file), Some("/nonexistent"));
        assert!(has(&no_directories, &[&a, &b]) && no_directories.len() == 2);
        assert_eq!(given(Some(""), Some("")), hosts);
        assert!(
            has(&given(Some(&file), None), &[&a])
                && given(Some(&file), None).len() == 2 + given(Some("/none"), None).len()
        );
        assert!(given(None, Some(&directories)).len() > 2 || !Path::new(FILES[0]).exists());
    }
}
