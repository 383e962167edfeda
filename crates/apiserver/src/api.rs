//! One request's way: authenticated, authorized, handed to whoever answers it, counted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::{Access, User};
use crate::body::{Body, BoxError};
use crate::handlers;
use crate::metrics::Metrics;
use crate::rbac::Attributes;
use crate::registry::Registry;
use crate::request::{Query, RequestInfo};
use crate::status::Status;
use crate::{endpoints, streams};

/// As upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
const IN_FLIGHT: usize = 600;
/// Bytes of a request's body, as upstream.
const BODY_LIMIT: usize = 3 << 20;
/// How long a client may go on sending a body that has been refused.
const LINGER: Duration = Duration::from_secs(5);

/// What every request is answered from.
pub struct Api {
    pub registry: Arc<Registry>,
    pub access: Arc<Access>,
    pub metrics: Metrics,
    pub documents: endpoints::Documents,
    /// The address that discovery gives to clients, `host:port`.
    pub address: String,
    /// Everything that a cluster has from its first moment is there.
    pub ready: AtomicBool,
    /// Ends watches when the server goes.
    pub stop: CancellationToken,
    in_flight: Semaphore,
}

/// Who sent a request.
pub enum Caller<'a> {
    /// Somebody at the other end of a TLS connection.
    Wire(Option<&'a [CertificateDer<'static>]>),
    /// A part of Tug in this process.
    Part(&'a User),
}

/// A body on its way in.
pub enum Inbound {
    Wire(Incoming),
    Part(kube::client::Body),
}

// === impl Inbound ===

impl Inbound {
    /// # Errors
    /// 413 past three megabytes; 400 when the connection breaks.
    pub async fn read(self) -> Result<Bytes, Status> {
        match self {
            Self::Wire(body) => read(body).await,
            Self::Part(body) => read(body).await,
        }
    }
}

async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut body = Box::pin(body);
    // A length that is announced needn't be read to be refused.
    if body.size_hint().lower() <= BODY_LIMIT as u64 {
        match Limited::new(body.as_mut(), BODY_LIMIT).collect().await {
            Ok(whole) => return Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {}
            Err(error) => return Err(Status::bad_request(format!("the body could not be read: {error}"))),
        }
    }
    // Who is still sending doesn't see an answer: what comes is thrown away for a while.
    tokio::spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = body.frame().await {} }));
    Err(Status::too_large(BODY_LIMIT))
}

// === impl Api ===

impl Api {
    pub fn new(registry: Arc<Registry>, access: Arc<Access>, address: String, stop: CancellationToken) -> Self {
        Self {
            registry,
            access,
            metrics: Metrics::default(),
            documents: endpoints::Documents::default(),
            address,
            ready: AtomicBool::new(false),
            stop,
            in_flight: Semaphore::new(IN_FLIGHT),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Answers a request. Never fails: whatever goes wrong is a `Status`.
    pub async fn handle(&self, caller: Caller<'_>, parts: Parts, body: Inbound) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = match RequestInfo::parse(&parts.method, parts.uri.path(), &query) {
            Ok(info) => info,
            Err(status) => return status.into_response(),
        };
        let answer = self.in_time(&info, &query, self.answer(caller, &info, &query, parts, body));
        let answer = AssertUnwindSafe(answer).catch_unwind().await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => status.into_response(),
            Err(panic) => {
                let why = panic.downcast_ref::<String>().map(String::as_str);
                let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
                tracing::error!(path = info.path, verb = info.verb, why, "a request panicked: this is a bug");
                Status::internal("the server met a bug; its log says more").into_response()
            }
        };
        let headers = response.headers_mut();
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        self.metrics.count(&info, response.status().as_u16(), started.elapsed());
        response
    }

    /// Gives up when the client does, if it says when that is.
    async fn in_time(
        &self,
        info: &RequestInfo,
        query: &Query,
        answer: impl Future<Output = Result<Response<Body>, Status>>,
    ) -> Result<Response<Body>, Status> {
        let Some(timeout) = query.timeout()?.filter(|_| !info.is_long_running()) else { return answer.await };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::timeout(format!(
                "Timeout: request did not complete within the requested timeout - context deadline exceeded ({timeout:?})"
            ))),
        }
    }

    async fn answer(
        &self,
        caller: Caller<'_>,
        info: &RequestInfo,
        query: &Query,
        parts: Parts,
        body: Inbound,
    ) -> Result<Response<Body>, Status> {
        let _permit = if info.is_long_running() {
            None
        } else {
            let full = |_| Status::too_many_requests("Too many requests, please try again later.", 1);
            Some(self.in_flight.try_acquire().map_err(full)?)
        };
        let authenticated;
        let user = match caller {
            Caller::Part(user) => user,
            Caller::Wire(certificates) => {
                authenticated = self.access.identify(certificates, &parts.headers)?;
                &authenticated
            }
        };
        let attributes = attributes(user, info);
        let decision = self.access.authorizer.authorize(&attributes);
        if !decision.allowed {
            return Err(attributes.forbidden(&decision));
        }
        if !info.is_resource {
            return endpoints::answer(self, info, query, &parts).await;
        }
        if is_stream(info) {
            streams::authorize(&self.access, &attributes, &parts.headers)?;
            let Inbound::Wire(body) = body else {
                return Err(Status::bad_request("streams are served over the network only"));
            };
            // Proxied paths go on as they came, still encoded.
            let path = parts.uri.path().to_owned();
            let segments = if info.namespace.is_empty() { 6 } else { 8 };
            let rest = path.match_indices('/').nth(segments - 1).map_or("", |(at, _)| &path[at..]);
            let target = streams::Target {
                resource: &info.resource,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &info.name,
                rest: if info.subresource == "proxy" { rest } else { "" },
            };
            return Ok(streams::handle(&self.access, target, Request::from_parts(parts, body)).await);
        }
        handlers::answer(self, user, info, query, &parts, body).await
    }
}

pub fn attributes<'a>(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
    Attributes {
        user,
        verb: &info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        is_resource: info.is_resource,
        fields: &info.fields,
    }
}

fn is_stream(info: &RequestInfo) -> bool {
    let streams: &[&str] = match info.resource.as_str() {
        "pods" => &["log", "exec", "attach", "portforward", "proxy"],
        "nodes" | "services" => &["proxy"],
        _ => return false,
    };
    info.group.is_empty() && info.version == "v1" && streams.contains(&info.subresource.as_str())
}
