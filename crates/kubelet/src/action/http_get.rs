//! `httpGet`: one request, redirects followed while they stay on the host, certificates not verified.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use url::Url;

use super::{Target, authority, connect};
use crate::task::AbortOnDrop;

/// What is read of an answer, as upstream.
const BODY_BYTES: usize = 10 * 1024;
/// As Go's client.
const MOST_REQUESTS: usize = 10;

/// The last answer, redirects followed.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum GetError {
    /// The request can't be made.
    Invalid(String),
    /// In Go's words.
    Failed(String),
}

/// `kube-probe/1.36`.
pub fn user_agent(purpose: &str) -> String {
    format!("kube-{purpose}/1.36")
}

impl Target {
    /// `purpose` is a word of the user agent.
    pub async fn get(&self, action: &HTTPGetAction, limit: Duration, purpose: &str) -> Result<Answer, GetError> {
        let (host, port) = self.place(action.host.as_deref(), &action.port).map_err(GetError::Invalid)?;
        let scheme = action.scheme.as_deref().filter(|scheme| !scheme.is_empty()).unwrap_or("http").to_lowercase();
        let path = action.path.as_deref().unwrap_or("");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{scheme}://{}{slash}{path}", authority(&host, port));
        let first = Url::parse(&url).map_err(|error| GetError::Invalid(format!("parse {url:?}: {error}")))?;
        let headers: Vec<(String, String)> =
            action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect();
        let request = Request { headers, agent: user_agent(purpose) };
        let mut url = first.clone();
        let mut shown = shown(&url, port);
        match tokio::time::timeout(limit, follow(&request, &first, &mut url, &mut shown, limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(GetError::Failed(format!(
                "Get {shown:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            ))),
        }
    }
}

/// What all requests of an action have in common.
struct Request {
    headers: Vec<(String, String)>,
    agent: String,
}

async fn follow(
    request: &Request,
    first: &Url,
    url: &mut Url,
    shown_url: &mut String,
    limit: Duration,
) -> Result<Answer, GetError> {
    let failed = |url: &str, message: String| GetError::Failed(format!("Get {url:?}: {message}"));
    for _ in 0..MOST_REQUESTS {
        let keeps_host = url.port() == first.port();
        let (answer, location) =
            request.send(url, keeps_host, limit).await.map_err(|message| failed(shown_url, message))?;
        let Some(next) = location.and_then(|location| url.join(&location).ok()) else { return Ok(answer) };
        if next.host_str() != first.host_str() {
            return Ok(answer);
        }
        *shown_url = shown(&next, next.port_or_known_default().unwrap_or_default());
        *url = next;
    }
    Err(failed(shown_url, format!("stopped after {MOST_REQUESTS} redirects")))
}

/// With its port, which the URL itself leaves out when it is the scheme's own.
fn shown(url: &Url, port: u16) -> String {
    let host = url.host_str().unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}://{host}:{port}{}{query}", url.scheme(), url.path())
}

impl Request {
    /// The answer, and where it sends the client to.
    async fn send(&self, url: &Url, with_host: bool, limit: Duration) -> Result<(Answer, Option<String>), String> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut builder = http::Request::get(format!("{}{query}", url.path()));
        let mut given_host = authority(&host, port);
        for (name, value) in &self.headers {
            if name.eq_ignore_ascii_case(HOST.as_str()) {
                if with_host && !value.is_empty() {
                    given_host = value.clone();
                }
            } else if !(name.eq_ignore_ascii_case(ACCEPT.as_str()) && value.is_empty()) {
                // An empty Accept only keeps the default away.
                builder = builder.header(name, value);
            }
        }
        let named = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !named(USER_AGENT.as_str()) {
            builder = builder.header(USER_AGENT, &self.agent);
        }
        if !named(ACCEPT.as_str()) {
            builder = builder.header(ACCEPT, "*/*");
        }
        let builder = builder.header(HOST, given_host).header(CONNECTION, "close");
        let request = builder.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let stream = connect(&host, port, limit).await?;
        if url.scheme() != "https" {
            return exchange(TokioIo::new(stream), request).await;
        }
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = connector()?.connect(name, stream).await.map_err(|error| error.to_string())?;
        exchange(TokioIo::new(stream), request).await
    }
}

async fn exchange<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<(Answer, Option<String>), String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|error| go_http_error(&error))?;
    let status = answer.status().as_u16();
    let redirects = matches!(status, 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Read to its end within a bound, so that well-behaved servers see no reset.
    let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await.map(|body| body.to_bytes());
    drop(driver);
    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    Ok((Answer { status, body }, location.filter(|_| redirects)))
}

fn go_http_error(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".into() } else { error.to_string() }
}

/// Upstream doesn't verify either: a probe asks whether, not who.
fn connector() -> Result<tokio_rustls::TlsConnector, String> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
