//! Requests that end at a node or a pod: logs, exec, attach, port-forward and proxies.
//!
//! The request goes on to the kubelet (or the pod) over a connection of its own, and its answer comes back as it is. After
//! an upgrade the bytes of both sides are spliced: no frame is looked into here.

mod backend;
mod pods;
mod proxy;
#[cfg(test)]
mod tests;

use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use tug_api::kinds::core;

use crate::auth::Access;
use crate::body::{self, Body};
use crate::rbac::Attributes;
use crate::status::Status;

/// What is shown of a kubelet's refusal.
const MAX_REFUSAL_BYTES: usize = 50_000;

/// What such a request is about, from its path.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `pods`, `nodes` or `services`.
    pub resource: &'a str,
    /// `log`, `exec`, `attach`, `portforward` or `proxy`.
    pub subresource: &'a str,
    /// Empty for nodes.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The path behind `/proxy`, still percent-encoded, with its leading slash; empty otherwise.
    pub rest: &'a str,
}

/// Passes the request on to the kubelet, or to the pod that a proxy request is for, and its answer back. Upgraded
/// connections live on after the answer, until either side closes them or `access.closing` is cancelled.
pub async fn handle(access: &Access, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    match pass_on(access, target, request).await {
        Ok(response) => response,
        Err(status) => status.into_response(),
    }
}

/// A WebSocket begins with a GET, but what it does in a pod is no reading: it takes the right to create, as upstream's
/// `AuthorizePodWebsocketUpgradeCreatePermission` has it. To be asked besides the usual authorization.
///
/// # Errors
/// 403 without that right.
pub fn authorize(access: &Access, request: &Attributes<'_>, headers: &HeaderMap) -> Result<(), Status> {
    let acts = matches!(request.subresource, "exec" | "attach" | "portforward");
    if !acts || request.verb != "get" || !backend::is_upgrade(headers) {
        return Ok(());
    }
    let create = Attributes { verb: "create", ..*request };
    let decision = access.authorizer.authorize(&create);
    if decision.allowed { Ok(()) } else { Err(create.forbidden(&decision)) }
}

async fn pass_on(access: &Access, target: Target<'_>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let objects = &*access.objects;
    let (backend, path) = match (target.resource, target.subresource) {
        ("pods", "log") => match pods::log(objects, target, &query)? {
            Some(location) => location,
            // Not on a node yet: nothing was said so far.
            None => {
                let mut response = Response::new(body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                return Ok(response);
            }
        },
        ("pods", "exec" | "attach" | "portforward") => {
            let location = pods::stream(objects, target, &query)?;
            // Which protocols there are is the kubelet's to say, after what it says about the container: kubectl tries
            // SPDY when WebSocket is refused, and shows the refusal of that.
            if !backend::is_upgrade(request.headers()) {
                return Err(Status::bad_request("Upgrade request required"));
            }
            location
        }
        ("pods", "proxy") => proxy::pod(objects, target, &query)?,
        ("services", "proxy") => proxy::service(objects, target, &query)?,
        ("nodes", "proxy") => proxy::node(objects, target, &query)?,
        _ => return Err(Status::no_such_path()),
    };
    let answer = backend.send(access, &path, request).await?;
    if target.subresource != "log" || answer.status().is_success() {
        return Ok(answer);
    }
    let code = answer.status();
    let text = read(answer.into_body()).await.map_err(Status::internal)?;
    Err(refusal(code, &text, target.name))
}

/// A kubelet's refusal is plain text; clients expect a `Status` (upstream's `GenericHttpResponseChecker`).
fn refusal(code: StatusCode, text: &str, pod: &str) -> Status {
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::not_found(&core::POD, pod)
            .saying(format!("the server could not find the requested resource ({text})")),
        _ => Status::internal(text),
    }
}

/// The beginning of a body.
async fn read(mut body: Body) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() >= MAX_REFUSAL_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
