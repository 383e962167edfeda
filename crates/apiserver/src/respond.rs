//! Answers in the encoding and shape that the client asked for.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde_json::Value;

use crate::body::{self, Body};
use crate::negotiate;

/// Answers smaller than this aren't worth the time, as upstream.
const GZIP_FROM: u64 = 128 << 10;

pub fn bytes(code: StatusCode, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub fn json(code: StatusCode, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string().into())
}

/// The same answer gzipped, if it's large and the client takes that.
pub async fn compressed(response: Response<Body>, request: &HeaderMap) -> Response<Body> {
    let large = response.body().size_hint().exact().is_some_and(|length| length >= GZIP_FROM);
    if !large || !negotiate::takes_gzip(request) || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, whole) = response.into_parts();
    // The body is in memory already.
    let Ok(whole) = whole.collect().await else { return Response::from_parts(parts, body::empty()) };
    let plain = whole.to_bytes();
    let input = plain.clone();
    let zipped = tokio::task::spawn_blocking(move || zipped(&input, Compression::fast()));
    let Ok(Ok(zipped)) = zipped.await else { return Response::from_parts(parts, body::full(plain)) };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(parts, body::full(zipped))
}

/// # Errors
/// Never: the bytes are in memory.
pub fn zipped(plain: &[u8], how: Compression) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), how);
    encoder.write_all(plain).and_then(|()| encoder.finish()).map(Bytes::from)
}

/// # Errors
/// If `zipped` isn't what [`zipped`] makes.
pub fn unzipped(zipped: &[u8]) -> std::io::Result<Bytes> {
    let mut plain = Vec::with_capacity(zipped.len() * 8);
    GzDecoder::new(zipped).read_to_end(&mut plain)?;
    Ok(plain.into())
}

/// Adds `Warning: 299` headers, each text once.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning.as_str()) {
            continue;
        }
        seen.push(warning);
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // Header values are bytes: what isn't ASCII goes through as UTF-8.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// The same answer, indented, if it's JSON.
pub async fn pretty(response: Response<Body>) -> Response<Body> {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes() == b"application/json");
    if !is_json {
        return response;
    }
    let (parts, whole) = response.into_parts();
    let Ok(whole) = whole.collect().await else { return Response::from_parts(parts, body::empty()) };
    let plain = whole.to_bytes();
    let indented = serde_json::from_slice::<Value>(&plain).and_then(|value| serde_json::to_vec_pretty(&value));
    Response::from_parts(parts, body::full(indented.map_or(plain, Bytes::from)))
}
