//! Service-account tokens: signed, bound to what they were asked for, and checked against what still exists.
//!
//! JWTs with upstream's claims (`pkg/serviceaccount/claims.go`), ES256 with the key `sa.key`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use rcgen::PublicKeyData;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tug_api::kinds::core;
use tug_api::{FieldError, Kind, Object, ObjectKey};

use crate::auth::User;
use crate::objects::Objects;
use crate::pki::{self, Pki};
use crate::status::Status;

/// Issuer and default audience.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

const DEFAULT_LIFE: i64 = 60 * 60;
const SHORTEST_LIFE: i64 = 10 * 60;
const LONGEST_LIFE: i64 = 1 << 32;
/// What admission asks for in pods. Upstream gives such tokens a year and warns past this time, for the sake of clients
/// that read their token only once (`WarnOnlyBoundTokenExpirationPeriod`).
pub const POD_LIFE: i64 = 60 * 60 + 7;
const EXTENDED_LIFE: i64 = 365 * 24 * 60 * 60;
/// A token of an object being deleted holds this long past its deletion time.
const DELETION_LEEWAY: i64 = 60;
/// How far clocks may differ.
const CLOCK_LEEWAY: i64 = 60;
/// Signatures remembered as verified; past it all are forgotten and verified again.
const REMEMBERED: usize = 1024;

/// Signs and checks service-account tokens.
pub struct Issuer {
    key_id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwks: Value,
    /// Claims by a token's hash: verifying a signature costs more than all else that a request does.
    verified: Mutex<HashMap<[u8; 32], Claims>>,
}

/// A token about to be signed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Claims {
    aud: Audiences,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Binding,
    nbf: i64,
    sub: String,
}

/// One audience may stand bare.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Binding {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

/// `spec` of a TokenRequest.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestSpec {
    audiences: Vec<String>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BoundObject {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

// === impl Issuer ===

impl Issuer {
    /// # Errors
    /// If the signing key can't be used.
    pub fn new(pki: &Pki) -> Result<Self, pki::Error> {
        let key = pki.token_key();
        let unusable = |e: jsonwebtoken::errors::Error| pki::Error::TokenKey(e.to_string());
        let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(unusable)?;
        let verifying = DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(unusable)?;
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.subject_public_key_info()));
        // An uncompressed point: a tag, then both coordinates.
        let point = key.public_key_raw();
        let [_, x @ ..] = point else { return Err(pki::Error::TokenKey("it has no public part".into())) };
        let (x, y) = x.split_at(x.len() / 2);
        let jwks = json!({"keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        }]});
        Ok(Self { key_id, signing, verifying, jwks, verified: Mutex::default() })
    }

    /// The document at `/.well-known/openid-configuration`; `address` is the API's own, as `host:port`.
    pub fn openid_configuration(&self, address: &str) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The document at `/openid/v1/jwks` (`application/jwk-set+json`).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Answers a TokenRequest for `account`, which is its `serviceaccounts/token` subresource.
    ///
    /// # Errors
    /// As upstream: invalid spec (422), an account or bound object that isn't there (404) or is another one by now (409).
    pub fn request(&self, objects: &dyn Objects, account: &ObjectKey, mut body: Value) -> Result<Value, Status> {
        let kind = &core::SERVICE_ACCOUNT;
        let service_account = objects.get(kind, account).ok_or_else(|| Status::not_found(kind, &account.name))?;
        let spec = body.get("spec").cloned().unwrap_or_default();
        let spec: RequestSpec = if spec.is_null() {
            RequestSpec::default()
        } else {
            serde_json::from_value(spec).map_err(|e| Status::bad_request(format!("spec: {e}")))?
        };
        if let Some(wrong) = name_mismatch(&body, account) {
            return Err(wrong);
        }
        let asked = spec.expiration_seconds.unwrap_or(DEFAULT_LIFE);
        let path = "spec.expirationSeconds";
        let wrong = if asked < SHORTEST_LIFE {
            Some(FieldError::invalid(path, &json!(asked), "may not specify a duration less than 10 minutes"))
        } else if asked > LONGEST_LIFE {
            Some(FieldError::invalid(path, &json!(asked), "may not specify a duration larger than 2^32 seconds"))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(Status::invalid_kind("authentication.k8s.io", "TokenRequest", "", vec![wrong]));
        }

        let audiences = if spec.audiences.is_empty() { vec![ISSUER.to_owned()] } else { spec.audiences };
        let mut binding = Binding {
            namespace: account.namespace.clone(),
            serviceaccount: Reference { name: account.name.clone(), uid: service_account.meta.uid.clone() },
            ..Binding::default()
        };
        if let Some(bound) = &spec.bound_object_ref {
            bind(objects, account, bound, &mut binding)?;
        }
        let now = Timestamp::now().as_second();
        let mut life = asked;
        if asked == POD_LIFE && binding.pod.is_some() && audiences.iter().any(|audience| audience == ISSUER) {
            binding.warnafter = Some(now + POD_LIFE);
            life = EXTENDED_LIFE;
        }
        let claims = Claims {
            aud: Audiences::Many(audiences.clone()),
            exp: now + life,
            iat: now,
            iss: ISSUER.into(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes: binding,
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        };
        let token = self.sign(&claims).map_err(Status::internal)?;

        body["apiVersion"] = "authentication.k8s.io/v1".into();
        body["kind"] = "TokenRequest".into();
        if !body["metadata"].is_object() {
            body["metadata"] = json!({});
        }
        let created = Timestamp::from_second(now).unwrap_or_default().to_string();
        body["metadata"]["name"] = account.name.as_str().into();
        body["metadata"]["namespace"] = account.namespace.as_str().into();
        body["metadata"]["creationTimestamp"] = created.into();
        if !body["spec"].is_object() {
            body["spec"] = json!({});
        }
        body["spec"]["audiences"] = audiences.into();
        body["spec"]["expirationSeconds"] = asked.into();
        if body["spec"].get("boundObjectRef").is_none() {
            body["spec"]["boundObjectRef"] = Value::Null;
        }
        let until = Timestamp::from_second(now + asked).unwrap_or_default().to_string();
        body["status"] = json!({"token": token, "expirationTimestamp": until});
        Ok(body)
    }

    /// The service account behind a token, and those of the token's audiences that were asked for. No audiences asked for
    /// means the API server's own.
    ///
    /// # Errors
    /// Why the token doesn't hold, without any of it: fit for a trace and for a TokenReview's `status.error`.
    pub fn authenticate(
        &self,
        objects: &dyn Objects,
        token: &str,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), String> {
        let claims = self.verify(token)?;
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own } else { audiences };
        let held = match &claims.aud {
            Audiences::Many(held) => held.as_slice(),
            Audiences::One(held) => std::slice::from_ref(held),
        };
        let common: Vec<String> = wanted.iter().filter(|audience| held.contains(audience)).cloned().collect();
        if common.is_empty() {
            return Err(format!("token audiences {held:?} is invalid for the target audiences {wanted:?}"));
        }
        let now = Timestamp::now().as_second();
        if now > claims.exp + CLOCK_LEEWAY {
            return Err("service account token has expired".into());
        }
        if now + CLOCK_LEEWAY < claims.nbf {
            return Err("service account token is not valid yet".into());
        }
        let user = bound_user(objects, &claims, now)?;
        Ok((user, common))
    }

    fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// A token's claims, when we have signed it; an empty error when it is no such token at all. Times and audiences are for the caller, since they hold for a while only.
    fn verify(&self, token: &str) -> Result<Claims, String> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.verified.lock().get(&hash) {
            return Ok(claims.clone());
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation);
        let claims = decoded.map_err(|error| why_refused(&error))?.claims;
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(hash, claims.clone());
        Ok(claims)
    }
}

/// Empty for what isn't a token.
fn why_refused(error: &jsonwebtoken::errors::Error) -> String {
    use jsonwebtoken::errors::ErrorKind::{Base64, InvalidAlgorithm, InvalidToken, Json, Utf8};
    match error.kind() {
        InvalidToken | InvalidAlgorithm | Base64(_) | Json(_) | Utf8(_) => String::new(),
        _ => error.to_string(),
    }
}

// === impl Audiences ===

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// A TokenRequest may repeat the account's name and namespace, nothing else.
fn name_mismatch(body: &Value, account: &ObjectKey) -> Option<Status> {
    let said = |field: &str| body["metadata"][field].as_str().filter(|text| !text.is_empty());
    if let Some(name) = said("name").filter(|name| *name != account.name) {
        let (expected, got) = (&account.name, name);
        return Some(Status::bad_request(format!(
            "metadata.name: Invalid value: {got:?}: must match the service account name if specified ({expected})"
        )));
    }
    let namespace = said("namespace").filter(|namespace| *namespace != account.namespace)?;
    Some(Status::bad_request(format!(
        "metadata.namespace: Invalid value: {namespace:?}: must match the service account namespace if specified ({})",
        account.namespace
    )))
}

/// Puts the object that the token shall die with into `binding`, as upstream's TokenREST does.
fn bind(objects: &dyn Objects, account: &ObjectKey, bound: &BoundObject, binding: &mut Binding) -> Result<(), Status> {
    let (kind, key): (&'static Kind, ObjectKey) = match (bound.api_version.as_str(), bound.kind.as_str()) {
        ("v1", "Pod") => (&core::POD, ObjectKey::new(&account.namespace, &bound.name)),
        ("v1", "Secret") => (&core::SECRET, ObjectKey::new(&account.namespace, &bound.name)),
        ("v1", "Node") => (&core::NODE, ObjectKey::new("", &bound.name)),
        (version, kind) => {
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let object = objects.get(kind, &key).ok_or_else(|| Status::not_found(kind, &key.name))?;
    if !bound.uid.is_empty() && bound.uid != object.meta.uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. \
             The object might have been deleted and then recreated",
            bound.uid
        );
        return Err(Status::conflict(kind, &key.name, &why));
    }
    let reference = Some(Reference { name: key.name.clone(), uid: object.meta.uid.clone() });
    match kind.kind {
        "Pod" => {
            let pod = object.value().map_err(Status::internal)?;
            let used = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if used != account.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name
                )));
            }
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let uid = objects.get(&core::NODE, &ObjectKey::new("", node)).map(|node| node.meta.uid.clone());
                binding.node = Some(Reference { name: node.into(), uid: uid.unwrap_or_default() });
            }
            binding.pod = reference;
        }
        "Secret" => binding.secret = reference,
        _ => binding.node = reference,
    }
    Ok(())
}

/// The user of verified claims, if everything that they are bound to is still there.
fn bound_user(objects: &dyn Objects, claims: &Claims, now: i64) -> Result<User, String> {
    let bound = &claims.kubernetes;
    let namespace = bound.namespace.as_str();
    let account = &bound.serviceaccount;
    if claims.sub != format!("system:serviceaccount:{namespace}:{}", account.name) {
        return Err("service account token's subject is not its service account".into());
    }
    still_there(objects, &core::SERVICE_ACCOUNT, namespace, account, now)?;
    let mut user = User::service_account(namespace, &account.name, &account.uid);
    let mut extra = BTreeMap::new();
    let mut note = |what: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value.to_owned()]);
        }
    };
    note("credential-id", &format!("JTI={}", claims.jti));
    if let Some(secret) = &bound.secret {
        still_there(objects, &core::SECRET, namespace, secret, now)?;
    }
    if let Some(pod) = &bound.pod {
        still_there(objects, &core::POD, namespace, pod, now)?;
        note("pod-name", &pod.name);
        note("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        // A pod's token outlives its node's object; one bound to the node alone doesn't.
        if bound.pod.is_none() {
            still_there(objects, &core::NODE, "", node, now)?;
        }
        note("node-name", &node.name);
        note("node-uid", &node.uid);
    }
    user.extra = extra;
    Ok(user)
}

fn still_there(
    objects: &dyn Objects,
    kind: &'static Kind,
    namespace: &str,
    reference: &Reference,
    now: i64,
) -> Result<(), String> {
    let what = || format!("{} {}/{}", kind.singular, namespace, reference.name);
    let Some(object) = objects.get(kind, &ObjectKey::new(namespace, &reference.name)) else {
        return Err(format!("{} is gone", what()));
    };
    if object.meta.uid != reference.uid {
        return Err(format!("{} has another UID than the token's claim", what()));
    }
    if deleted_since(&object).is_some_and(|at| at + DELETION_LEEWAY < now) {
        return Err(format!("{} has been deleted", what()));
    }
    Ok(())
}

fn deleted_since(object: &Object) -> Option<i64> {
    let at: Timestamp = object.meta.deletion_timestamp.as_ref()?.parse().ok()?;
    Some(at.as_second())
}

#[cfg(test)]
mod tests;
