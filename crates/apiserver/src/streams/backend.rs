//! One request to a kubelet or a pod, over a connection made for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::Access;
use crate::body::{self, Body};
use crate::status::Status;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that are about one connection (RFC 9110 section 7.6.1), and those that are for us alone.
const NOT_PASSED_ON: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Where a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// TLS with our certificate; the kubelet's must be the authority's.
    Kubelet(SocketAddr),
    /// Plain HTTP.
    Pod(SocketAddr),
}

// === impl Backend ===

impl Backend {
    /// Sends the request to `path` (with its query) and gives the answer, streamed.
    pub(super) async fn send(
        self,
        access: &Access,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        match self {
            Self::Kubelet(address) => {
                let stream = connect(address).await?;
                let config = access.kubelet_tls.clone();
                let stream = encrypt(config, address.ip(), stream).await?;
                exchange(access, address, path, stream, request).await
            }
            Self::Pod(address) => exchange(access, address, path, connect(address).await?, request).await,
        }
    }
}

/// Whether a request asks to speak another protocol.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(header::UPGRADE)
        && connection.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Status> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(address, &error.to_string())),
        Err(_) => return Err(unreachable(address, "i/o timeout")),
    };
    // Keystrokes and their echo are small: waiting to fill a segment would be felt.
    stream.set_nodelay(true).map_err(|error| unreachable(address, &error.to_string()))?;
    Ok(stream)
}

async fn encrypt(
    config: Arc<ClientConfig>,
    address: IpAddr,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Status> {
    let handshake = TlsConnector::from(config).connect(ServerName::IpAddress(address.into()), stream);
    match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(dialing_failed(format!("error dialing backend: tls: {error}"))),
        Err(_) => Err(dialing_failed("error dialing backend: TLS handshake timeout")),
    }
}

/// Upstream answers a backend that can't be reached with a bare 500: neither the request nor the server is at fault.
pub(super) fn dialing_failed(message: impl Into<String>) -> Status {
    Status { code: 500, reason: "", message: message.into(), details: None }
}

fn unreachable(address: SocketAddr, why: &str) -> Status {
    dialing_failed(format!("error dialing backend: dial tcp {address}: {why}"))
}

async fn exchange<S>(
    access: &Access,
    address: SocketAddr,
    path: &str,
    stream: S,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| dialing_failed(format!("error trying to reach backend: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let closing = access.closing.clone();
    // Ends with the answer's body or the upgraded streams, at the latest when the server closes.
    tokio::spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%address, %error, "connection to backend ended");
            },
            () = closing.cancelled() => {}
        }
    });

    let upgrading = is_upgrade(request.headers());
    let client_side = upgrading.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, sent_body) = request.into_parts();
    parts.uri = path.parse::<Uri>().map_err(|error| Status::bad_request(format!("path: {error}")))?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    for name in &NOT_PASSED_ON {
        parts.headers.remove(name);
    }
    if !upgrading {
        parts.headers.remove(header::CONNECTION);
        parts.headers.remove(header::UPGRADE);
    }
    let host = HeaderValue::from_str(&address.to_string()).map_err(Status::internal)?;
    parts.headers.insert(header::HOST, host);
    let mut response = sender.send_request(Request::from_parts(parts, sent_body)).await.map_err(failed)?;

    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client_side) = client_side
    {
        let backend_side = hyper::upgrade::on(&mut response);
        splice(access, address, client_side, backend_side);
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, body::empty()));
    }
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")]
    {
        response.headers_mut().remove(name);
    }
    let (mut parts, received) = response.into_parts();
    parts.version = Version::default();
    parts.extensions.clear();
    Ok(Response::from_parts(parts, received.map_err(Into::into).boxed_unsync()))
}

/// Carries bytes both ways until one side ends or the server closes.
fn splice(
    access: &Access,
    address: SocketAddr,
    client_side: hyper::upgrade::OnUpgrade,
    backend_side: hyper::upgrade::OnUpgrade,
) {
    let closing = access.closing.clone();
    tokio::spawn(async move {
        let carry = async {
            let (client, backend) = tokio::try_join!(client_side, backend_side).map_err(std::io::Error::other)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await
        };
        tokio::select! {
            ended = carry => if let Err(error) = ended {
                tracing::debug!(%address, %error, "stream ended");
            },
            () = closing.cancelled() => {}
        }
    });
}
