//! The distribution protocol as far as a pull needs it: manifests, blobs from any byte on, and the tokens and passwords
//! that a registry asks for (github.com/distribution/distribution, `docs/content/spec`). What a push needs: `upload.rs`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LINK, RANGE, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::spec::Auth;

/// Larger manifests are refused, as containerd does.
pub const MOST_DOCUMENT_BYTES: u64 = 8 << 20;
/// Errors and tokens are short.
const MOST_ANSWER_BYTES: u64 = 1 << 20;

/// More tags than any repository has.
const MOST_TAGS: usize = 100_000;

const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json";

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The first of the registry's own errors.
    #[error("{}: {message}", code.to_ascii_lowercase().replace('_', " "))]
    Answer { code: String, message: String },
    /// Of the registry or of whatever stands between.
    #[error("received unexpected HTTP status: {0}")]
    Status(StatusCode),
    /// Of the server that it sends people to for tokens.
    #[error("token server {host}: {status}")]
    Token { host: String, status: StatusCode },
    #[error("{0}")]
    Senseless(String),
    #[error("{}", root_cause(.0))]
    Transport(#[from] reqwest::Error),
}

type Result<T> = std::result::Result<T, Refusal>;

/// One registry or mirror.
pub struct Client {
    http: reqwest::Client,
    /// `https://host:port`, with a mirror's path.
    base: String,
    auth: Auth,
    /// What a token must allow; reading the repository that is asked for when empty.
    pub scopes: Vec<String>,
    /// What the registry has taken so far.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Client {
    pub fn new(http: reqwest::Client, base: String, auth: Auth) -> Self {
        let authorization = match &auth {
            Auth::Bearer(token) => header(format!("Bearer {token}")),
            _ => None,
        };
        Self { http, base, auth, scopes: Vec::new(), authorization: Mutex::new(authorization) }
    }

    /// The bytes of a manifest or an index; `reference` is a tag or a digest.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Vec<u8>> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))]);
        let answer = self.get(repository, &format!("manifests/{reference}"), headers).await?;
        read(answer, MOST_DOCUMENT_BYTES).await
    }

    /// A blob from the byte `offset` on, or from its start where the registry can't do that; which of the two is in the
    /// answer's status, [`StatusCode::PARTIAL_CONTENT`] for the former.
    pub async fn blob(&self, repository: &str, digest: &str, offset: u64) -> Result<Response> {
        let range = header(format!("bytes={offset}-")).filter(|_| offset > 0);
        self.get(repository, &format!("blobs/{digest}"), range.map(|range| (RANGE, range)).into_iter().collect()).await
    }

    /// Names of all tags, over as many answers as the registry makes of them.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        let mut next = Some(self.url(repository, "tags/list"));
        while let Some(url) = next {
            let answer = self.ask(repository, |http| http.get(url.clone())).await?;
            next = next_page(answer.headers()).and_then(|link| Some(answer.url().join(&link).ok()?.into()));
            let page: TagList = self.json(answer).await?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MOST_TAGS {
                return Err(Refusal::Senseless(format!("more than {MOST_TAGS} tags")));
            }
        }
        Ok(tags)
    }

    async fn get(&self, repository: &str, what: &str, headers: HeaderMap) -> Result<Response> {
        let url = self.url(repository, what);
        self.ask(repository, |http| http.get(&url).headers(headers.clone())).await
    }

    /// A short document.
    pub async fn json<T: DeserializeOwned>(&self, answer: Response) -> Result<T> {
        let bytes = read(answer, MOST_DOCUMENT_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|error| Refusal::Senseless(format!("the registry's answer: {error}")))
    }

    pub fn url_of_api(&self) -> String {
        format!("{}/v2/", self.base)
    }

    pub fn url(&self, repository: &str, what: &str) -> String {
        format!("{}/v2/{repository}/{what}", self.base)
    }

    /// Sends a request, once more with what the registry asks for.
    pub async fn ask(
        &self,
        repository: &str,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut answer = self.send(request(&self.http)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(authorization) = self.authorize(answer.headers(), repository).await?
        {
            *self.authorization.lock() = Some(authorization);
            answer = self.send(request(&self.http)).await?;
        }
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let mut request = request.build()?;
        let authorization = self.authorization.lock().clone();
        // Registries may send us elsewhere, where nobody is to know it.
        let own = url::Url::parse(&self.base).is_ok_and(|base| base.origin() == request.url().origin());
        if let Some(authorization) = authorization.filter(|_| own) {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Ok(self.http.execute(request).await?)
    }

    /// What to send to a registry that asks for it so; `None` when there is nothing better than what was sent.
    async fn authorize(&self, headers: &HeaderMap, repository: &str) -> Result<Option<HeaderValue>> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        for challenge in challenges {
            let (scheme, parameters) = parse_challenge(challenge);
            match (scheme.to_ascii_lowercase().as_str(), &self.auth) {
                (_, Auth::Bearer(_)) => {}
                ("bearer", _) => return Ok(header(format!("Bearer {}", self.token(&parameters, repository).await?))),
                ("basic", Auth::Basic { username, password }) => return Ok(basic(username, password)),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn token(&self, parameters: &HashMap<String, String>, repository: &str) -> Result<String> {
        let senseless = |what: &str| Refusal::Senseless(format!("the registry asks for a token {what}"));
        let realm = parameters.get("realm").ok_or_else(|| senseless("from nowhere"))?;
        let mut url = url::Url::parse(realm).map_err(|error| senseless(&format!("from {realm:?}: {error}")))?;
        if let Some(service) = parameters.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let reading = [format!("repository:{repository}:pull")];
        let needed = if self.scopes.is_empty() { &reading[..] } else { &self.scopes };
        // Without a repository it is only about being let in.
        for scope in needed.iter().filter(|_| !repository.is_empty() || !self.scopes.is_empty()) {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let mut headers = HeaderMap::new();
        if let Auth::Basic { username, password } = &self.auth {
            url.query_pairs_mut().append_pair("account", username);
            headers.extend(basic(username, password).map(|value| (AUTHORIZATION, value)));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let answer = self.http.get(url).headers(headers).send().await?;
        if !answer.status().is_success() {
            return Err(Refusal::Token { host, status: answer.status() });
        }
        let granted: Granted = serde_json::from_slice(&read(answer, MOST_ANSWER_BYTES).await?)
            .map_err(|error| Refusal::Senseless(format!("token server {host}: {error}")))?;
        let token = [granted.token, granted.access_token].into_iter().find(|token| !token.is_empty());
        token.ok_or_else(|| Refusal::Senseless(format!("token server {host}: no token in its answer")))
    }
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    /// Its name in OAuth 2.0.
    #[serde(default)]
    access_token: String,
}

#[derive(Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

/// `</v2/a/tags/list?last=x&n=100>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| target.to_owned())
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<RegistryError>,
}

#[derive(Deserialize)]
struct RegistryError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

async fn refusal(answer: Response) -> Refusal {
    let status = answer.status();
    let body = read(answer, MOST_ANSWER_BYTES).await.unwrap_or_default();
    let first = serde_json::from_slice::<Errors>(&body).ok().and_then(|body| body.errors.into_iter().next());
    match first {
        Some(RegistryError { code, message }) => Refusal::Answer { code, message },
        None => Refusal::Status(status),
    }
}

async fn read(answer: Response, most: u64) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
        if body.len() as u64 > most {
            return Err(Refusal::Senseless(format!("an answer of more than {most} bytes")));
        }
    }
    Ok(body)
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    header(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// A secret; nothing when it can't stand in a header.
fn header(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Bearer realm="https://…",service="…"` (RFC 9110, section 11.6.1), one challenge in a header as registries send them.
fn parse_challenge(text: &str) -> (&str, HashMap<String, String>) {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut parameters = HashMap::new();
    while let Some((name, behind)) = rest.split_once('=') {
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = behind.find(',').unwrap_or(behind.len());
                (behind[..end].trim().to_owned(), &behind[end..])
            }
        };
        parameters.insert(name.trim().to_ascii_lowercase(), value);
        rest = behind.trim_start().trim_start_matches(',').trim_start();
    }
    (scheme, parameters)
}

/// What stands before the closing quote, and what comes after it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The client's own words name the URL only; why it failed is at the bottom.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        type Parameters = &'static [(&'static str, &'static str)];
        let cases: [(&str, &str, Parameters); 5] = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                "Bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            ),
            (r#"Basic realm="a \"b\", c""#, "Basic", &[("realm", r#"a "b", c"#)]),
            ("Bearer Realm=http://a , service=x", "Bearer", &[("realm", "http://a"), ("service", "x")]),
            ("Negotiate", "Negotiate", &[]),
            (r#"Bearer realm="unclosed"#, "Bearer", &[("realm", "unclosed")]),
        ];
        for (text, scheme, parameters) in cases {
            let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            assert_eq!(parse_challenge(text), (scheme, parameters.collect()), "{text}");
        }
    }
}
