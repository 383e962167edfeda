//! Who is asking: a client certificate of the cluster's authority, or a bearer token, turned into a [`User`].

mod certificate;
#[cfg(test)]
pub(crate) mod fake;
mod impersonation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, header};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio_util::sync::CancellationToken;

use crate::objects::Objects;
use crate::pki::{self, Pki};
use crate::rbac::Authorizer;
use crate::status::Status;
use crate::tokens::Issuer;

pub const ANONYMOUS: &str = "system:anonymous";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Of an identity's `extra`: which credential it showed.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
pub const MASTERS: &str = "system:masters";
pub const NODES: &str = "system:nodes";
pub const NODE_PREFIX: &str = "system:node:";
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// An identity that made a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Empty when the identity has none (certificates, system parts).
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// All that decides who may do what, made once and shared by the request path.
pub struct Access {
    pub objects: Arc<dyn Objects>,
    pub pki: Arc<Pki>,
    pub issuer: Arc<Issuer>,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub(crate) kubelet_tls: Arc<rustls::ClientConfig>,
    /// Cancelled when the server closes: ends streams that outlive their request.
    pub closing: CancellationToken,
}

/// Turns what a request carries into a [`User`].
pub struct Authenticator {
    certificates: certificate::Verifier,
    issuer: Arc<Issuer>,
    objects: Arc<dyn Objects>,
}

// === impl User ===

impl User {
    /// A part of the server itself, which needs no credentials: `system:authenticated` is added to `groups`.
    pub fn system(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[AUTHENTICATED]).map(|group| (*group).to_string()).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// The in-process identity with all rights.
    pub fn admin() -> Self {
        Self::system("system:apiserver", &[MASTERS])
    }

    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// A service account, as its tokens make it known.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}"), AUTHENTICATED.into()],
            extra: BTreeMap::new(),
        }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|held| held == group)
    }

    /// The node's name when this is a kubelet's identity.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty() && self.is_in(NODES))
    }

    /// Namespace and name when this is a service account's identity.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }
}

// === impl Access ===

impl Access {
    /// # Errors
    /// If the keys of `pki` can't be used.
    pub fn new(pki: Arc<Pki>, objects: Arc<dyn Objects>, closing: CancellationToken) -> Result<Self, pki::Error> {
        let issuer = Arc::new(Issuer::new(&pki)?);
        Ok(Self {
            authenticator: Authenticator::new(&pki, issuer.clone(), objects.clone())?,
            authorizer: Authorizer::new(objects.clone()),
            kubelet_tls: pki.kubelet_client_config()?,
            closing,
            issuer,
            pki,
            objects,
        })
    }

    /// The identity that a request acts as: who shows the credentials, or whom they may and do impersonate.
    ///
    /// # Errors
    /// 401 as [`Authenticator::authenticate`]; 403 when they may not act as somebody else.
    pub fn identify(&self, peer_certs: Option<&[CertificateDer<'_>]>, headers: &HeaderMap) -> Result<User, Status> {
        let user = self.authenticator.authenticate(peer_certs, headers)?;
        impersonation::acting_as(&self.authorizer, user, headers)
    }
}

// === impl Authenticator ===

impl Authenticator {
    /// # Errors
    /// If the authority's certificate can't be used.
    pub fn new(pki: &Pki, issuer: Arc<Issuer>, objects: Arc<dyn Objects>) -> Result<Self, pki::Error> {
        Ok(Self { certificates: certificate::Verifier::new(pki.client_verifier()?), issuer, objects })
    }

    /// The request's identity; `system:anonymous` when it shows no credentials at all.
    ///
    /// # Errors
    /// 401 when it shows credentials that don't hold: a certificate of another authority or past its time, a token that is
    /// forged, expired, for another audience, or bound to something that is gone. A certificate that doesn't hold is made
    /// good by a token that does, as upstream's union of authenticators has it.
    pub fn authenticate(&self, peer_certs: Option<&[CertificateDer<'_>]>, headers: &HeaderMap) -> Result<User, Status> {
        let mut shown = false;
        if let Some([end_entity, intermediates @ ..]) = peer_certs {
            shown = true;
            match self.certificates.user(end_entity, intermediates, UnixTime::now()) {
                Ok(user) => return Ok(user),
                Err(reason) => tracing::debug!(%reason, "client certificate refused"),
            }
        }
        if let Some(token) = bearer(headers) {
            shown = true;
            match self.issuer.authenticate(&*self.objects, token, &[]) {
                Ok((user, _)) => return Ok(user),
                Err(reason) => tracing::debug!(%reason, "bearer token refused"),
            }
        }
        if shown { Err(Status::unauthorized()) } else { Ok(User::anonymous()) }
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
