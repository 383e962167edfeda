//! Client certificates: common name and organizations of what the cluster's authority signed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTHENTICATED, CREDENTIAL_ID, User};

/// Certificates remembered as verified, at most; past it all are forgotten and verified again.
const REMEMBERED: usize = 512;

/// Verifies each certificate once, then knows it until its end.
pub(super) struct Verifier {
    authority: Arc<dyn ClientCertVerifier>,
    verified: Mutex<HashMap<Vec<u8>, (User, UnixTime)>>,
}

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(authority: Arc<dyn ClientCertVerifier>) -> Self {
        Self { authority, verified: Mutex::default() }
    }

    /// The user that a certificate names.
    ///
    /// # Errors
    /// Why it is refused, for the trace.
    pub(super) fn user(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<User, String> {
        if let Some((user, until)) = self.verified.lock().get(end_entity.as_ref())
            && now.as_secs() <= until.as_secs()
        {
            return Ok(user.clone());
        }
        self.authority.verify_client_cert(end_entity, intermediates, now).map_err(|e| e.to_string())?;
        let (_, cert) = X509Certificate::from_der(end_entity).map_err(|e| e.to_string())?;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
        let name = cert.subject().iter_common_name().find_map(text).filter(|name| !name.is_empty());
        let name = name.ok_or("it has no common name")?;
        let mut groups: Vec<String> = cert.subject().iter_organization().filter_map(text).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        let hash: String = Sha256::digest(end_entity).iter().map(|byte| format!("{byte:02x}")).collect();
        let extra = BTreeMap::from([(CREDENTIAL_ID.into(), vec![format!("X509SHA256={hash}")])]);
        let user = User { name, groups, extra, ..User::default() };
        let until = UNIX_EPOCH + Duration::from_secs(cert.validity().not_after.timestamp().max(0).unsigned_abs());
        let until = UnixTime::since_unix_epoch(until.duration_since(UNIX_EPOCH).unwrap_or_default());
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(end_entity.to_vec(), (user.clone(), until));
        Ok(user)
    }
}
