//! The kubelet's HTTPS server: logs, exec, attach and what the node runs, for the API server alone.

mod auth;
mod logs;
mod metrics;
mod streams;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::kubelet::{Context, Error};
use crate::labels;
use crate::pods::Pods;
use crate::runtime::ContainerStatus;
use crate::task::AbortOnDrop;

/// More than one API server's streams; connections past it wait in the kernel.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Response<Body>;

/// What requests are answered from.
pub(crate) struct Server {
    pub context: Arc<Context>,
    pub pods: Arc<Pods>,
}

/// Listens, and serves until the task is dropped.
pub(crate) async fn start(context: Arc<Context>, pods: Arc<Pods>) -> Result<(SocketAddr, AbortOnDrop<()>), Error> {
    let tls = auth::server_config(&context.config)?;
    let address = context.config.listen;
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = Arc::new(Server { context, pods });
    let task = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), server));
    Ok((address, AbortOnDrop(task)))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others have to close first.
                tracing::warn!(%error, "kubelet can't accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, server) = (tls.clone(), Arc::clone(&server));
        tokio::spawn(async move {
            serve(stream, tls, server).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, server: Arc<Server>) {
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let caller = auth::caller(stream.get_ref().1);
    let service = service_fn(move |request| {
        let (server, caller) = (Arc::clone(&server), caller.clone());
        async move { Ok::<_, std::convert::Infallible>(route(server, caller, request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "kubelet connection ended");
    }
}

async fn route(server: Arc<Server>, caller: Option<auth::Caller>, request: Request<Incoming>) -> Answer {
    let Some(caller) = caller else { return text(StatusCode::UNAUTHORIZED, "Unauthorized") };
    if !caller.may_use_kubelet() {
        let message = format!("Forbidden (user={}, verb={}, resource=nodes)", caller.name, request.method());
        return text(StatusCode::FORBIDDEN, &message);
    }
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let reading = request.method() == Method::GET;
    match parts.as_slice() {
        ["healthz"] if reading => text(StatusCode::OK, "ok"),
        ["pods"] if reading => pod_list(&server),
        ["metrics"] if reading => metrics::metrics(&server).await,
        ["stats", "summary"] if reading => metrics::summary(&server).await,
        ["containerLogs", namespace, pod, container] if reading => match server.find(namespace, pod, container) {
            Ok(pod) => logs::answer(&server, &pod, container, &request).await,
            Err(answer) => *answer,
        },
        [kind @ ("exec" | "attach"), namespace, pod, container]
        | [kind @ ("exec" | "attach"), namespace, pod, _, container] => match server.find(namespace, pod, container) {
            Ok(pod) => streams::answer(&server, &pod, container, *kind == "exec", request).await,
            Err(answer) => *answer,
        },
        ["portForward", ..] => text(StatusCode::NOT_IMPLEMENTED, "port forwarding is not supported by this node yet"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

impl Server {
    /// The pod, if it has a container of that name.
    fn find(&self, namespace: &str, name: &str, container: &str) -> Result<Arc<Pod>, Box<Answer>> {
        let Some(pod) = self.pods.get(namespace, name) else {
            return Err(Box::new(text(StatusCode::NOT_FOUND, &format!("pod \"{name}\" not found"))));
        };
        let known = pod.spec.as_ref().is_some_and(|spec| {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|known| &known.name);
            let added = spec.ephemeral_containers.iter().flatten().map(|known| &known.name);
            all.chain(added).any(|known| known == container)
        });
        if !known {
            let message = format!("container \"{container}\" not found in pod \"{name}\"");
            return Err(Box::new(text(StatusCode::NOT_FOUND, &message)));
        }
        Ok(pod)
    }

    /// Starts of a container, the newest first.
    fn containers(&self, pod: &Pod, name: &str) -> Vec<ContainerStatus> {
        let mut all = self.context.runtime.containers(crate::pod::uid(pod));
        all.retain(|status| labels::container_name(status) == name);
        all.sort_by_key(|status| std::cmp::Reverse((labels::restart_count(status), status.created)));
        all
    }
}

fn pod_list(server: &Server) -> Answer {
    let items: Vec<Pod> = server.pods.list().iter().map(|pod| (**pod).clone()).collect();
    json(&serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
}

pub(crate) fn text(status: StatusCode, message: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Bytes::from(format!("{message}\n")))
}

pub(crate) fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", Bytes::from(value.to_string()))
}

pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
