//! What probes and lifecycle hooks do: run a command, ask over HTTP or gRPC, open a TCP connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use crate::runtime::Runtime;

/// What a probe reads of an answer.
const BODY_BYTES: usize = 10 * 1024;

/// How an action went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// What the event says after `… probe failed: `.
    Failure(String),
    /// It couldn't be tried.
    Unknown(String),
}

/// The container that an action is about.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub container_id: String,
    pub container: Container,
    pub address: Option<IpAddr>,
}

impl Target {
    pub async fn exec(&self, action: &ExecAction, limit: Duration) -> Outcome {
        let command = action.command.clone().unwrap_or_default();
        match tokio::time::timeout(limit, self.runtime.exec_sync(&self.container_id, command)).await {
            Err(_) => Outcome::Failure(format!(
                "command timed out: {}",
                (action.command.as_deref().unwrap_or_default()).join(" ")
            )),
            Ok(Err(error)) => Outcome::Unknown(error.to_string()),
            Ok(Ok(output)) if output.exit_code == 0 => Outcome::Success,
            Ok(Ok(output)) => Outcome::Failure(output.output),
        }
    }

    pub async fn tcp(&self, action: &TCPSocketAction, limit: Duration) -> Outcome {
        let (host, port) = match self.place(action.host.as_deref(), &action.port) {
            Ok(place) => place,
            Err(message) => return Outcome::Unknown(message),
        };
        match connect(&host, port, limit).await {
            Ok(_) => Outcome::Success,
            Err(message) => Outcome::Failure(message),
        }
    }

    pub async fn http(&self, action: &HTTPGetAction, limit: Duration, user_agent: &str) -> Outcome {
        let (host, port) = match self.place(action.host.as_deref(), &action.port) {
            Ok(place) => place,
            Err(message) => return Outcome::Unknown(message),
        };
        let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let path = action.path.as_deref().unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let authority = authority(&host, port);
        let url = format!("{}://{authority}{path}", if tls { "https" } else { "http" });
        let mut request = http::Request::get(&path);
        let mut given_host = authority;
        for header in action.http_headers.iter().flatten() {
            if header.name.eq_ignore_ascii_case("host") {
                given_host = header.value.clone();
            } else {
                request = request.header(&header.name, &header.value);
            }
        }
        let named =
            |name: &str| action.http_headers.iter().flatten().any(|header| header.name.eq_ignore_ascii_case(name));
        if !named("user-agent") {
            request = request.header("User-Agent", user_agent);
        }
        if !named("accept") {
            request = request.header("Accept", "*/*");
        }
        let request = request.header("Host", given_host).header("Connection", "close").body(Empty::<Bytes>::new());
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        match tokio::time::timeout(limit, ask(&host, port, tls, request, limit)).await {
            Err(_) => Outcome::Failure(format!(
                "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )),
            Ok(Err(message)) => Outcome::Failure(format!("Get {url:?}: {message}")),
            Ok(Ok(status)) if (200..400).contains(&status) => Outcome::Success,
            Ok(Ok(status)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }

    /// `grpc.health.v1.Health/Check`.
    pub async fn grpc(&self, action: &GRPCAction, limit: Duration) -> Outcome {
        let (host, port) = match self.place(None, &IntOrString::Int(action.port)) {
            Ok(place) => place,
            Err(message) => return Outcome::Unknown(message),
        };
        let service = action.service.as_deref().unwrap_or("");
        match tokio::time::timeout(limit, health_check(&host, port, service, limit)).await {
            Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {}s", limit.as_secs())),
            Ok(Err(message)) => Outcome::Failure(message),
            Ok(Ok(1)) => Outcome::Success,
            Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with status {status})")),
        }
    }

    fn place(&self, host: Option<&str>, port: &IntOrString) -> Result<(String, u16), String> {
        let port = match port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(name) => name.parse().ok().or_else(|| {
                let ports = self.container.ports.iter().flatten();
                ports.into_iter().find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            }),
        };
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let port = port.ok_or("invalid port number")?;
        let host = match host.filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None => self.address.ok_or("the pod has no address yet")?.to_string(),
        };
        Ok((host, port))
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let whom = authority(host, port);
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Err(_) => Err(format!("dial tcp {whom}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {whom}: connect: {}", go_words(&error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// `connection refused`, not `Connection refused (os error 111)`.
fn go_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

async fn ask(
    host: &str,
    port: u16,
    tls: bool,
    request: http::Request<Empty<Bytes>>,
    limit: Duration,
) -> Result<u16, String> {
    let stream = connect(host, port, limit).await?;
    if !tls {
        return send(TokioIo::new(stream), request).await;
    }
    // Upstream doesn't verify either: a probe asks whether, not who.
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    send(TokioIo::new(stream), request).await
}

async fn send<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    // Read to its end within a bound, so that well-behaved servers see no reset; what it says doesn't matter.
    let _ = Limited::new(answer.into_body(), BODY_BYTES).collect().await;
    drop(driver);
    Ok(status)
}

async fn health_check(host: &str, port: u16, service: &str, limit: Duration) -> Result<u64, String> {
    let stream = connect(host, port, limit).await?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let _driver = AbortOnDrop(tokio::spawn(connection));
    // HealthCheckRequest { string service = 1; } behind gRPC's five-byte frame head.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        message.push(u8::try_from(service.len()).map_err(|_| "service name too long")?);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    let request = http::Request::post(format!("http://{}/grpc.health.v1.Health/Check", authority(host, port)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let in_head = answer.headers().clone();
    let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or(in_head);
    let header = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    match header("grpc-status").as_str() {
        "" | "0" => {}
        code => return Err(format!("health rpc failed: status {code}: {}", header("grpc-message"))),
    }
    let body = body.to_bytes();
    // HealthCheckResponse { ServingStatus status = 1; }: absent means 0, UNKNOWN.
    match body.get(5..) {
        Some([0x08, status, ..]) => Ok(u64::from(*status)),
        _ => Ok(0),
    }
}

/// A task that ends with its owner.
pub struct AbortOnDrop<T>(pub tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
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
