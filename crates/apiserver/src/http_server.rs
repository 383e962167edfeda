//! Connections: accepted, encrypted, and spoken HTTP/1.1 or HTTP/2 over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::api::{Api, Caller, Inbound};

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// Requests at one time over one HTTP/2 connection, as upstream.
const STREAMS: u32 = 250;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(32);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const HEADER_BYTES: u32 = 64 << 10;

/// Serves until the server stops.
pub async fn serve(api: Arc<Api>, listener: TcpListener, tls: Arc<ServerConfig>, tasks: TaskTracker) {
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = api.stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually too many open files: others have to end first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (api, acceptor) = (api.clone(), acceptor.clone());
        tasks.spawn(async move {
            connection(api, stream, acceptor).await;
            drop(place);
        });
    }
}

async fn connection(api: Arc<Api>, stream: TcpStream, acceptor: TlsAcceptor) {
    // Answers are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            return refuse_plain(stream).await.map(|()| None);
        }
        acceptor.accept(stream).await.map(Some)
    };
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates: Option<Arc<[CertificateDer<'static>]>> =
        stream.get_ref().1.peer_certificates().map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
    let service = service_fn(|request: Request<Incoming>| {
        let (api, certificates) = (api.clone(), certificates.clone());
        async move {
            let (parts, body) = request.into_parts();
            Ok::<_, Infallible>(api.handle(Caller::Wire(certificates.as_deref()), parts, Inbound::Wire(body)).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = api.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Whoever speaks plain HTTP here is told so, as Go's servers do.
async fn refuse_plain(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n").await?;
    stream.shutdown().await
}
