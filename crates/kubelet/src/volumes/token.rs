//! Service-account tokens of one pod: bound to it, asked of the API server, renewed before they expire.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::pod;

/// Upstream renews after this, however long a token lives.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);

pub struct Tokens {
    client: kube::Client,
    held: Mutex<HashMap<(String, i64), Held>>,
}

struct Held {
    token: String,
    renew_at: Instant,
}

impl Tokens {
    pub fn new(client: kube::Client) -> Self {
        Self { client, held: Mutex::default() }
    }

    /// When the first of the tokens wants renewal.
    pub fn renewal(&self) -> Option<Instant> {
        self.held.lock().values().map(|held| held.renew_at).min()
    }

    /// A token for `audience` (the API server's own when empty).
    ///
    /// # Errors
    /// If the API server doesn't give one; an older token that is still good is given instead.
    pub async fn get(&self, pod: &Pod, audience: &str, lifetime_seconds: i64) -> Result<String, String> {
        let key = (audience.to_owned(), lifetime_seconds);
        let old = self.held.lock().get(&key).map(|held| (held.token.clone(), held.renew_at));
        if let Some((token, renew_at)) = &old
            && Instant::now() < *renew_at
        {
            return Ok(token.clone());
        }
        match self.request(pod, audience, lifetime_seconds).await {
            Ok(held) => {
                let token = held.token.clone();
                self.held.lock().insert(key, held);
                Ok(token)
            }
            Err(error) => match old {
                Some((token, _)) => {
                    tracing::warn!(pod = %pod::full_name(pod), %error, "token not renewed yet");
                    // Tried again soon, not at every turn.
                    self.held
                        .lock()
                        .entry(key)
                        .and_modify(|held| held.renew_at = Instant::now() + Duration::from_secs(10));
                    Ok(token)
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    async fn request(&self, pod: &Pod, audience: &str, lifetime_seconds: i64) -> Result<Held, String> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let body = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
                expiration_seconds: Some(lifetime_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", pod::namespace(pod));
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body).map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
        let answer: TokenRequest = self.client.request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status.unwrap_or_default();
        let token = status.token.ok_or("the API server answered without a token")?;
        let expires = status.expiration_timestamp.ok_or("the API server answered without a time of expiry")?;
        let left = expires.0.duration_since(jiff::Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        Ok(Held { token, renew_at: Instant::now() + (left * 8 / 10).min(LONGEST_USE) })
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}
