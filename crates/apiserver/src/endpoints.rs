//! Paths that aren't resources: discovery, OpenAPI, health, version, metrics and the service accounts' issuer.

use std::collections::HashMap;

use bytes::Bytes;
use flate2::Compression;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tug_api::openapi::gnostic;
use tug_api::{discovery, openapi};

use crate::api::Api;
use crate::body::{self, Body};
use crate::health;
use crate::negotiate;
use crate::request::{Query, RequestInfo};
use crate::respond;
use crate::status::Status;

/// Documents that never change while the server runs, made at their first use.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<String, Document>>);

#[derive(Clone)]
struct Document {
    /// Gzipped: OpenAPI shrinks to a tenth, and those who ask for it take it so.
    zipped: Bytes,
    etag: HeaderValue,
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const JSON: &str = "application/json";

/// Answers a request that authorization has let through.
///
/// # Errors
/// 404 for a path that isn't served, 405 for a verb that it doesn't have.
pub async fn answer(api: &Api, info: &RequestInfo, query: &Query, parts: &Parts) -> Result<Response<Body>, Status> {
    let path = info.path.trim_end_matches('/');
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let served = matches!(
        segments.first().copied().unwrap_or_default(),
        "" | "api"
            | "apis"
            | "version"
            | "healthz"
            | "livez"
            | "readyz"
            | "metrics"
            | "openapi"
            | ".well-known"
            | "openid"
    );
    if served && !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed_here());
    }
    let aggregated = negotiate::clauses(&parts.headers).iter().any(|clause| {
        clause.media_type == JSON
            && clause.parameter("g") == "apidiscovery.k8s.io"
            && clause.parameter("v") == "v2"
            && clause.parameter("as") == "APIGroupDiscoveryList"
    });
    let wants_protobuf = negotiate::clauses(&parts.headers)
        .iter()
        .any(|clause| matches!(clause.media_type, gnostic::MEDIA_TYPE | gnostic::OLD_NAME));
    let json = |value: Value| Some(value.to_string().into_bytes());
    let address = &api.address;
    let (media_type, key, make): (_, _, Box<dyn Fn() -> Option<Vec<u8>> + Send>) = match segments[..] {
        [] | [""] => (JSON, "/".into(), Box::new(move || json(paths()))),
        ["api"] if aggregated => {
            (AGGREGATED, "aggregated /api".into(), Box::new(move || json(discovery::aggregated_core())))
        }
        ["apis"] if aggregated => {
            (AGGREGATED, "aggregated /apis".into(), Box::new(move || json(discovery::aggregated_groups())))
        }
        ["api"] => {
            let address = address.clone();
            (JSON, "/api".into(), Box::new(move || json(discovery::core_versions(&address))))
        }
        ["apis"] => (JSON, "/apis".into(), Box::new(move || json(discovery::groups()))),
        ["apis", group] => {
            let group = group.to_owned();
            (JSON, format!("/apis/{group}"), Box::new(move || discovery::group(&group).and_then(json)))
        }
        ["api", version] => {
            let version = version.to_owned();
            (JSON, format!("/api/{version}"), Box::new(move || discovery::resources("", &version).and_then(json)))
        }
        ["apis", group, version] => {
            let (group, version) = (group.to_owned(), version.to_owned());
            let key = format!("/apis/{group}/{version}");
            (JSON, key, Box::new(move || discovery::resources(&group, &version).and_then(json)))
        }
        ["openapi", "v2"] if wants_protobuf => {
            (gnostic::MEDIA_TYPE, "/openapi/v2 protobuf".into(), Box::new(move || Some(openapi::v2_protobuf())))
        }
        ["openapi", "v2"] => (JSON, "/openapi/v2".into(), Box::new(move || Some(openapi::v2()))),
        ["openapi", "v3"] => (JSON, "/openapi/v3".into(), Box::new(move || json(openapi::v3_index()))),
        ["openapi", "v3", ref rest @ ..] => {
            let rest = rest.join("/");
            (JSON, format!("/openapi/v3/{rest}"), Box::new(move || openapi::v3(&rest)))
        }
        ["version"] => return Ok(respond::json(StatusCode::OK, &version())),
        ["healthz" | "livez" | "readyz", ref check @ ..] => {
            return health::answer(api, segments[0], check, query).await;
        }
        ["metrics"] => {
            let text = api.metrics.text(&api.registry.cache);
            return Ok(plain(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text));
        }
        [".well-known", "openid-configuration"] => {
            return Ok(respond::json(StatusCode::OK, &api.access.issuer.openid_configuration(&api.address)));
        }
        ["openid", "v1", "jwks"] => {
            return Ok(plain(StatusCode::OK, "application/jwk-set+json", api.access.issuer.jwks().to_string()));
        }
        _ => return Err(Status::no_such_path()),
    };
    let document = api.documents.get(key, make).await.ok_or_else(Status::no_such_path)?;
    if parts.headers.get(header::IF_NONE_MATCH) == Some(&document.etag) {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(header::ETAG, document.etag);
        return Ok(response);
    }
    let mut response = if negotiate::takes_gzip(&parts.headers) {
        let mut response = respond::bytes(StatusCode::OK, media_type, document.zipped);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        let plain = tokio::task::spawn_blocking(move || respond::unzipped(&document.zipped)).await;
        respond::bytes(StatusCode::OK, media_type, plain.map_err(Status::internal)?.map_err(Status::internal)?)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, document.etag);
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    Ok(response)
}

// === impl Documents ===

impl Documents {
    async fn get(&self, key: String, make: Box<dyn Fn() -> Option<Vec<u8>> + Send>) -> Option<Document> {
        if let Some(document) = self.0.lock().get(&key) {
            return Some(document.clone());
        }
        // OpenAPI documents take a while. A panic in there is a bug, and shows as one by its 404 and the trace.
        let made = tokio::task::spawn_blocking(move || {
            let bytes = make()?;
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
            let etag = HeaderValue::from_str(&format!("\"{hash}\"")).ok()?;
            Some(Document { zipped: respond::zipped(&bytes, Compression::default()).ok()?, etag })
        });
        let document = made.await.ok()??;
        self.0.lock().insert(key, document.clone());
        Some(document)
    }
}

fn paths() -> Value {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(String::from).into();
    let groups = discovery::groups();
    for group in groups["groups"].as_array().into_iter().flatten() {
        paths.push(format!("/apis/{}", group["name"].as_str().unwrap_or_default()));
        for version in group["versions"].as_array().into_iter().flatten() {
            paths.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap_or_default()));
        }
    }
    let rest =
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(rest.map(String::from));
    json!({ "paths": paths })
}

/// The Kubernetes API that this server speaks, with Tug's own version behind it.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.0+tug",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}

pub fn plain(code: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    respond::bytes(code, media_type, text.into())
}
