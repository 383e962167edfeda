//! The Docker Engine API over the engine's unix socket. So far the part about images, so that `docker load`, `pull` and
//! the like and `tug image` put images where the cluster's pods find them.
#![forbid(unsafe_code)]

pub mod images;
pub mod networks;
pub mod reply;
mod timestamp;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tug_engine::Engine;

use reply::{Body, Failure};

/// Newest and oldest API versions served.
const API_VERSION: &str = "1.51";
const MIN_API_VERSION: &str = "1.24";
/// Connections at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 256;

/// A serving socket; dropping it stops the service and removes the socket.
pub struct DockerApi {
    path: PathBuf,
    _serving: JoinSet<()>,
}

/// Serves `engine` on a unix socket, mode 0660.
///
/// # Errors
/// If something answers on that socket already, or it can't be made.
pub async fn serve(engine: Arc<Engine>, path: &Path) -> io::Result<DockerApi> {
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        let message = format!("{} is served by another process", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))?;
    let mut serving = JoinSet::new();
    serving.spawn(accept(listener, engine));
    Ok(DockerApi { path: path.into(), _serving: serving })
}

impl Drop for DockerApi {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket stays");
        }
    }
}

async fn accept(listener: UnixListener, engine: Arc<Engine>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting on the docker socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let engine = engine.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let engine = engine.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&engine, request).await) }
            });
            let connection = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = connection.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a docker client's connection ended");
            }
            drop(place);
        });
    }
}

async fn answer(engine: &Arc<Engine>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let result = match unversioned(&path) {
        Ok(path) => route(engine, path, request).await,
        Err(failure) => Err(failure),
    };
    let mut response = result.unwrap_or_else(|failure| failure.into_response());
    let headers = response.headers_mut();
    headers.insert("api-version", http::HeaderValue::from_static(API_VERSION));
    headers.insert("ostype", http::HeaderValue::from_static("linux"));
    headers.insert("server", http::HeaderValue::from_static(concat!("Tug/", env!("CARGO_PKG_VERSION"))));
    response
}

async fn route(engine: &Arc<Engine>, path: &str, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(reply::text("OK")),
        (&Method::GET, ["version"]) => Ok(reply::json(&version())),
        (_, ["images" | "distribution" | "build", ..] | ["auth"]) => images::route(engine, path, request).await,
        _ => Err(Failure::new(404, "page not found")),
    }
}

/// The path without its `/v1.x`.
///
/// # Errors
/// In the Docker daemon's words when that version isn't served.
fn unversioned(path: &str) -> Result<&str, Failure> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|p| p.split_once('/')) else { return Ok(path) };
    let number = |v: &str| v.strip_prefix("1.").and_then(|minor| minor.parse::<u32>().ok());
    let Some(minor) = number(version) else { return Ok(path) };
    if Some(minor) > number(API_VERSION) {
        return Err(Failure::new(
            400,
            format!("client version {version} is too new. Maximum supported API version is {API_VERSION}"),
        ));
    }
    if Some(minor) < number(MIN_API_VERSION) {
        return Err(Failure::new(
            400,
            format!(
                "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
                 your client to a newer version"
            ),
        ));
    }
    Ok(&path[path.len() - rest.len() - 1..])
}

fn version() -> serde_json::Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    serde_json::json!({
        "Platform": { "Name": "Tug" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": kernel.trim(),
        "Components": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_off_the_path_and_checked() {
        assert_eq!(unversioned("/v1.51/images/json").ok(), Some("/images/json"));
        assert_eq!(unversioned("/v1.24/_ping").ok(), Some("/_ping"));
        assert_eq!(unversioned("/_ping").ok(), Some("/_ping"));
        for (path, words) in [("/v1.99/info", "is too new"), ("/v1.12/info", "is too old")] {
            let failure = unversioned(path).expect_err(path);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }
}

// The network crate's own test namespaces; these two are what it finds at its crate's root.
#[cfg(test)]
#[path = "../../network/src/testing.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod testing;
#[cfg(test)]
use tug_network::{links, netns};
