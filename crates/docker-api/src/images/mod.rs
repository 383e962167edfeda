//! `/images/…`, and what registries are asked: `/auth`, `/distribution/…`. Nothing is built: `/build` says so.

mod account;
mod call;
mod changes;
mod commit;
mod filters;
mod inspect;
mod lines;
mod list;
mod remove;
mod transfer;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tug_engine::images::reference::Reference;
use tug_engine::{Engine, Image, Platform};

use crate::reply::{self, Body, Failure};
use call::Call;
pub use commit::{Asked as CommitAsked, Commission};

pub async fn route(engine: &Arc<Engine>, path: &str, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let (call, body) = Call::of(request);
    let path = call::decoded(path);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let none = || Failure::new(404, "page not found");
    match (&call.method, segments.as_slice()) {
        (&Method::POST, ["auth"]) => account::login(engine, body).await,
        (&Method::GET, ["distribution", name @ .., "json"]) => account::remote(engine, &name.join("/"), &call).await,
        (&Method::GET, ["images", "json"]) => list::list(engine, &call),
        (&Method::GET, ["images", "search"]) => account::search(engine, &call).await,
        (&Method::GET, ["images", "get"]) => transfer::save(engine, call.all("names"), &call).await,
        (&Method::GET, ["images", name @ .., "get"]) => transfer::save(engine, vec![name.join("/")], &call).await,
        (&Method::GET, ["images", name @ .., "history"]) => inspect::history(engine, &name.join("/"), &call),
        (&Method::GET, ["images", name @ .., "json"]) => inspect::inspect(engine, &name.join("/"), &call),
        (&Method::POST, ["images", "load"]) => transfer::load(engine, &call, body).await,
        (&Method::POST, ["images", "create"]) => transfer::create(engine, &call, body).await,
        (&Method::POST, ["images", "prune"]) if call.minor >= 25 => remove::prune(engine, &call).await,
        (&Method::POST, ["images", name @ .., "push"]) => transfer::push(engine, &name.join("/"), &call).await,
        (&Method::POST, ["images", name @ .., "tag"]) => remove::tag(engine, &name.join("/"), &call).await,
        (&Method::DELETE, ["images", name @ ..]) => remove::remove(engine, &name.join("/"), &call).await,
        // Of a prune of everything: there is no cache.
        (&Method::POST, ["build", "prune"]) => Ok(reply::json(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))),
        (&Method::POST, ["build", ..]) => Err(Failure::new(501, "building images is not supported by this daemon")),
        _ => Err(none()),
    }
}

/// Tells each image's event by `tell`: its action, the image's id (a name where Docker has one there), attributes.
/// Ends with the engine.
pub async fn forward_events(engine: &Engine, tell: impl Fn(&str, &str, BTreeMap<String, String>)) {
    let mut events = engine.images().events();
    loop {
        match events.recv().await {
            Ok(event) => {
                let name = ("name".to_owned(), event.name);
                tell(event.action, &event.id, event.labels.into_iter().chain([name]).collect());
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events of images are lost"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Names as Docker shows them: without `docker.io/library/`.
fn familiar_all(names: &[String]) -> Vec<String> {
    names.iter().map(|name| familiar(name)).collect()
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// An error in its own words, without the step that it happened in.
fn failure(error: tug_engine::Error) -> Failure {
    match error {
        tug_engine::Error::Failed { message, .. } => Failure::new(500, message),
        other => other.into(),
    }
}

/// An image, which has to be for `platform` if there is one.
fn find(engine: &Engine, name: &str, platform: Option<&Platform>) -> Result<Image, Failure> {
    let image = engine.images().find(name)?;
    let own = Platform::of_image(&image.config);
    match platform.filter(|platform| !platform.runs(&own)) {
        Some(platform) => Err(Failure::new(404, another_platform(name, &own, platform))),
        None => Ok(image),
    }
}

fn another_platform(name: &str, own: &Platform, platform: &Platform) -> String {
    format!(
        "image with reference {name} was found but its platform ({own}) does not match the specified platform ({platform})"
    )
}

/// `repo` and `tag` of a query; nothing without `repo`.
fn repo_and_tag(repo: &str, tag: &str) -> Result<Option<Reference>, Failure> {
    if repo.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse_as_written(repo)?;
    if reference.digest.is_some() {
        return Err(Failure::new(400, "cannot import digest reference"));
    }
    let tag = if tag.is_empty() { reference.tag.clone().unwrap_or_else(|| "latest".into()) } else { tag.to_owned() };
    Ok(Some(reference.with_tag(&tag)?))
}
