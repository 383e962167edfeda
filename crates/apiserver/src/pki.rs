//! The cluster's own certificate authority, what it has signed, and the service-account signing key.
//!
//! Files bear kubeadm's names. A key is made once and kept; a certificate that is missing, near its end, of another
//! authority or without a name that it needs is issued anew from its key. So whatever a crash leaves half done is
//! finished at the next start, and no file is ever seen half written.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName as TlsName, RootCertStore, ServerConfig};
use rustls::{SignatureScheme, crypto::CryptoProvider};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A certificate with less than this left is issued anew at the next start.
const RENEW_BEFORE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Clocks of a cluster's machines differ: certificates are valid from a little before they were made.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step} {}: {source}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not a usable {what}: {message}", path.display())]
    Unusable { what: &'static str, path: PathBuf, message: String },
    #[error("signing a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS configuration: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("sa.key is not usable: {0}")]
    TokenKey(String),
    #[error("reading back a certificate: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

/// The authority and everything that it vouches for on this server.
pub struct Pki {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    ca: Issuer<'static, KeyPair>,
    server: Pair,
    kubelet_client: Pair,
    token_key: KeyPair,
    provider: Arc<CryptoProvider>,
}

/// A certificate and its key, both PEM.
struct Pair {
    cert_pem: String,
    key_pem: String,
}

// === impl Pki ===

impl Pki {
    /// Reads `dir`, making whatever isn't there. `sans` are the names and addresses that the API server answers to;
    /// upstream's in-cluster names, `localhost` and 127.0.0.1 need not be among them.
    ///
    /// # Errors
    /// If a file can't be read or written, or holds something other than what its name says. A damaged authority is
    /// never replaced silently: every kubeconfig of the cluster hangs on it.
    pub fn load_or_create(dir: &Path, sans: &[String]) -> Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| Error::File {
            step: "making",
            path: dir.into(),
            source,
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ca_key = key(&dir.join("ca.key"))?;
        let ca_path = dir.join("ca.crt");
        let ca_pem = match read(&ca_path)? {
            Some(pem) => pem,
            None => {
                let pem = authority_params().self_signed(&ca_key)?.pem();
                write(&ca_path, &pem, 0o644)?;
                pem
            }
        };
        let unusable = |message: String| Error::Unusable { what: "certificate", path: ca_path.clone(), message };
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;
        if !holds_key(&ca_der, &ca_key) {
            return Err(unusable("it is not the certificate of ca.key beside it".into()));
        }
        let ca = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;

        let mut names: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "10.96.0.1",
        ]
        .map(String::from)
        .into();
        for san in sans {
            if !names.contains(san) {
                names.push(san.clone());
            }
        }
        let server = leaf(&ca, &ca_der, dir, "apiserver", Leaf::server("kube-apiserver", &names))?;
        // Upstream's kubeadm put this client into system:masters until 1.29, so that every kubelet lets it in.
        let orgs = ["system:masters".to_string()];
        let kubelet_client = Leaf::client("kube-apiserver-kubelet-client", &orgs);
        let kubelet_client = leaf(&ca, &ca_der, dir, "apiserver-kubelet-client", kubelet_client)?;
        let token_key = key(&dir.join("sa.key"))?;
        let public = dir.join("sa.pub");
        if read(&public)?.as_deref() != Some(token_key.public_key_pem().as_str()) {
            write(&public, &token_key.public_key_pem(), 0o644)?;
        }
        Ok(Self { ca_pem, ca_der, ca, server, kubelet_client, token_key, provider })
    }

    /// The authority's certificate, as kubeconfigs and service-account volumes carry it.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key that service-account tokens are signed with (ECDSA P-256).
    pub fn token_key(&self) -> &KeyPair {
        &self.token_key
    }

    /// A client's certificate and key, both PEM: `cn` becomes the user's name, `orgs` its groups.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue_client(&self, cn: &str, orgs: &[&str], life: Duration) -> Result<(String, String)> {
        let orgs: Vec<String> = orgs.iter().map(|org| (*org).to_string()).collect();
        self.issue(Leaf { life, ..Leaf::client(cn, &orgs) })
    }

    /// A server's certificate and key, both PEM, such as a kubelet's. `sans` are DNS names or IP addresses.
    ///
    /// # Errors
    /// If signing fails or a name can't stand in a certificate.
    pub fn issue_server(&self, cn: &str, sans: &[String]) -> Result<(String, String)> {
        self.issue(Leaf::server(cn, sans))
    }

    /// TLS of the API's own socket: HTTP/2 and HTTP/1.1; a client certificate is asked for but not demanded.
    ///
    /// Any certificate passes the handshake when its owner holds the key. Whether the authority vouches for it is
    /// decided by [`crate::auth::Authenticator`], which answers 401 as upstream does, where a refused handshake would tell
    /// kubectl's user nothing.
    ///
    /// # Errors
    /// If the certificate can't be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let verifier = AnyHolder { provider: self.provider.clone(), subjects: self.roots()?.subjects() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.server.chain()?, self.server.key()?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS towards kubelets: they must hold a certificate of the authority, and see ours. HTTP/1.1 only, since
    /// upgrades pass through.
    ///
    /// # Errors
    /// If the certificate can't be used.
    pub fn kubelet_client_config(&self) -> Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.kubelet_client.chain()?, self.kubelet_client.key()?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What tells whether a client's certificate is the authority's and within its time.
    pub(crate) fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>> {
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), self.provider.clone()).build()?)
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone())?;
        Ok(roots)
    }

    fn issue(&self, leaf: Leaf<'_>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let cert = leaf.params()?.signed_by(&key, &self.ca)?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

// === impl Pair ===

impl Pair {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        Ok(vec![CertificateDer::from_pem_slice(self.cert_pem.as_bytes())?])
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?)
    }
}

/// A certificate about to be issued.
struct Leaf<'a> {
    cn: &'a str,
    orgs: &'a [String],
    sans: &'a [String],
    usage: ExtendedKeyUsagePurpose,
    life: Duration,
}

// === impl Leaf ===

impl<'a> Leaf<'a> {
    fn server(cn: &'a str, sans: &'a [String]) -> Self {
        Self { cn, orgs: &[], sans, usage: ExtendedKeyUsagePurpose::ServerAuth, life: LEAF_LIFE }
    }

    fn client(cn: &'a str, orgs: &'a [String]) -> Self {
        Self { cn, orgs, sans: &[], usage: ExtendedKeyUsagePurpose::ClientAuth, life: LEAF_LIFE }
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.sans.to_vec())?;
        params.distinguished_name = subject(self.cn, self.orgs);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, self.life);
        Ok(params)
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("kubernetes", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, CA_LIFE);
    params
}

fn subject(cn: &str, orgs: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // `DistinguishedName` keeps one value a type; further organizations go in as types of the same OID.
    for (index, org) in orgs.iter().enumerate() {
        let kind = if index == 0 { DnType::OrganizationName } else { DnType::CustomDnType(vec![2, 5, 4, 10]) };
        name.push(kind, org.as_str());
    }
    name.push(DnType::CommonName, cn);
    name
}

fn set_life(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + life;
    let mut serial = rand::random::<[u8; 16]>();
    // Positive and never zero, RFC 5280 section 4.1.2.2.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

/// The certificate `name`.crt and key `name`.key in `dir`, issued anew when the one on disk won't do.
fn leaf(
    ca: &Issuer<'static, KeyPair>,
    ca_der: &CertificateDer<'_>,
    dir: &Path,
    name: &str,
    leaf: Leaf<'_>,
) -> Result<Pair> {
    let key = key(&dir.join(format!("{name}.key")))?;
    let path = dir.join(format!("{name}.crt"));
    let kept = read(&path)?.filter(|pem| will_do(pem, &key, ca_der, leaf.sans));
    let cert_pem = match kept {
        Some(pem) => pem,
        None => {
            let pem = leaf.params()?.signed_by(&key, ca)?.pem();
            write(&path, &pem, 0o644)?;
            pem
        }
    };
    Ok(Pair { cert_pem, key_pem: key.serialize_pem() })
}

/// Whether a certificate on disk is of this key and authority, has every name of `sans` and enough time left.
fn will_do(pem: &str, key: &KeyPair, ca_der: &CertificateDer<'_>, sans: &[String]) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    let (Ok((_, cert)), Ok((_, ca))) = (X509Certificate::from_der(&der), X509Certificate::from_der(ca_der)) else {
        return false;
    };
    let until = UNIX_EPOCH + Duration::from_secs(cert.validity().not_after.timestamp().max(0).unsigned_abs());
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    if left < RENEW_BEFORE || !holds_key(&der, key) || cert.verify_signature(Some(ca.public_key())).is_err() {
        return false;
    }
    let present: BTreeSet<String> = match cert.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(shown_name).collect(),
        _ => BTreeSet::new(),
    };
    sans.iter().all(|san| present.contains(san))
}

fn shown_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn holds_key(der: &CertificateDer<'_>, key: &KeyPair) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

fn key(path: &Path) -> Result<KeyPair> {
    let Some(pem) = read(path)? else {
        let key = KeyPair::generate()?;
        write(path, &key.serialize_pem(), 0o600)?;
        return Ok(key);
    };
    KeyPair::from_pem(&pem).map_err(|e| Error::Unusable { what: "key", path: path.into(), message: e.to_string() })
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { step: "reading", path: path.into(), source }),
    }
}

/// Whole or not at all, and on disk when it returns.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let fresh = path.with_extension("new");
    let written = (|| {
        // Left by a crash: it may have another mode.
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    })();
    written.map_err(|source| Error::File { step: "writing", path: path.into(), source })
}

/// Lets in whoever holds the key of the certificate shown; see [`Pki::server_config`].
#[derive(Debug)]
struct AnyHolder {
    provider: Arc<CryptoProvider>,
    /// Told to clients so that they pick the right certificate among several.
    subjects: Vec<TlsName>,
}

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[TlsName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
