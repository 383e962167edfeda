//! Bodies and errors as the Docker daemon sends them.

use std::io;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

pub type Body = BoxBody<Bytes, io::Error>;

/// An answer `{"message": …}` with its status.
#[derive(Debug)]
pub struct Failure {
    pub status: u16,
    pub message: String,
}

impl Failure {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = json(&serde_json::json!({ "message": self.message }));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    }
}

impl From<tug_engine::Error> for Failure {
    fn from(error: tug_engine::Error) -> Self {
        let status = match &error {
            tug_engine::Error::NotFound(_) => 404,
            tug_engine::Error::Conflict(_) => 409,
            tug_engine::Error::Invalid(_) => 400,
            tug_engine::Error::Failed { .. } => 500,
        };
        Self::new(status, error.to_string())
    }
}

pub fn text(text: &'static str) -> Response<Body> {
    with_type("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

pub fn json(value: &impl Serialize) -> Response<Body> {
    with_type("application/json", serde_json::to_vec(value).expect("replies have only string keys").into())
}

fn with_type(kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    response
}
