//! What registries are asked: whether they let one in, what they have, and searches.

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tug_engine::images::reference::Reference;
use tug_engine::{Engine, LoginError, Platform};

use super::call::{AuthConfig, Call};
use super::failure;
use super::filters::Filters;
use crate::reply::{self, Body, Failure};

/// Most that credentials may be.
const MOST_BYTES: usize = 1 << 20;
/// Results of a search, as Docker asks for them: at most, and unless told.
const MOST_RESULTS: usize = 100;
const RESULTS: usize = 25;

pub async fn login(engine: &Engine, body: Incoming) -> Result<Response<Body>, Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::new(400, format!("invalid X-Registry-Auth header: {error}"));
    let body = http_body_util::Limited::new(body, MOST_BYTES).collect().await.map_err(|error| invalid(&error))?;
    let config: AuthConfig = serde_json::from_slice(&body.to_bytes()).map_err(|error| invalid(&error))?;
    let address = config.serveraddress.clone();
    let host = address.split("://").last().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let registry = if ["", "index.docker.io"].contains(&host) { "docker.io" } else { host };
    match engine.images().login(registry, config.into_auth()).await {
        Ok(()) => Ok(reply::json(&json!({ "IdentityToken": "", "Status": "Login Succeeded" }))),
        Err(LoginError::Unauthorized(message)) => Err(Failure::new(401, message)),
        Err(LoginError::Failed(error)) => Err(failure(error)),
    }
}

pub async fn remote(engine: &Engine, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    let reference = Reference::parse(name)?;
    let found = engine.images().inspect_remote(reference, call.auth()).await.map_err(failure)?;
    let platform = |platform: &Platform| {
        let mut shown = json!({ "architecture": platform.architecture, "os": platform.os });
        if let Some(variant) = &platform.variant {
            shown["variant"] = variant.clone().into();
        }
        shown
    };
    Ok(reply::json(&json!({
        "Descriptor": { "mediaType": found.media_type, "digest": found.digest, "size": found.bytes },
        "Platforms": found.platforms.iter().map(platform).collect::<Vec<_>>(),
    })))
}

pub async fn search(engine: &Engine, call: &Call) -> Result<Response<Body>, Failure> {
    let filters = Filters::parse(call.one("filters"), &["is-automated", "is-official", "stars"])?;
    let limit = match call.one("limit") {
        "" => RESULTS,
        text => {
            let words = format!("invalid limit specified: strconv.Atoi: parsing {text:?}: invalid syntax");
            text.parse().map_err(|_| Failure::new(400, words))?
        }
    };
    let limit = if limit == 0 { RESULTS } else { limit };
    if limit > MOST_RESULTS {
        return Err(Failure::new(400, format!("limit {limit} is outside the range of [1, {MOST_RESULTS}]")));
    }
    let automated = filters.flag("is-automated", false)?;
    let official = filters.flag("is-official", false)?;
    let mut stars = 0;
    for text in filters.values("stars") {
        let number: i64 =
            text.parse().map_err(|error| Failure::new(400, format!("invalid filter 'stars={text}': {error}")))?;
        stars = stars.max(number);
    }
    if automated {
        return Ok(reply::json(&json!([])));
    }
    let found = engine.images().search(call.one("term"), limit, call.auth()).await;
    let found = found.map_err(failure)?;
    let fits = |result: &Value| {
        let is_official = result["is_official"].as_bool().unwrap_or_default();
        (!filters.has("is-official") || is_official == official)
            && result["star_count"].as_i64().unwrap_or_default() >= stars
    };
    let shown = |result: Value| {
        json!({
            "star_count": result["star_count"].as_i64().unwrap_or_default(),
            "is_official": result["is_official"].as_bool().unwrap_or_default(),
            "name": result["name"],
            "is_automated": false,
            "description": result["description"].as_str().unwrap_or_default(),
        })
    };
    Ok(reply::json(&found.into_iter().filter(fits).map(shown).collect::<Vec<_>>()))
}
