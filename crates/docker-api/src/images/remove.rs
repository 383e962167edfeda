//! Images get names and lose them.

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tug_engine::{Engine, Removal, Removed};

use super::call::Call;
use super::filters::Filters;
use super::list::{created, has_children, labels, until};
use super::{familiar, find, repo_and_tag};
use crate::reply::{self, Body, Failure};

pub async fn tag(engine: &Engine, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    let reference = repo_and_tag(call.one("repo"), call.one("tag"))?;
    let reference = reference.ok_or_else(|| Failure::new(400, "invalid reference format"))?;
    if reference.familiar_name() == "sha256" {
        let words = "refusing to create an ambiguous tag using digest algorithm as name";
        return Err(Failure::new(400, words));
    }
    engine.images().tag(name, &reference).await?;
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

pub async fn remove(engine: &Engine, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::new(400, "image name cannot be blank"));
    }
    if let Some(platform) = call.json_platform("platforms", 50)? {
        find(engine, name, Some(&platform))?;
    }
    let removal = Removal { force: call.flag("force"), keep_parents: call.flag("noprune"), ..Removal::default() };
    let removed = engine.remove_image(name, removal).await?;
    Ok(reply::json(&removed.iter().map(shown).collect::<Vec<_>>()))
}

fn shown(removed: &Removed) -> Value {
    match removed {
        Removed::Untagged(name) => json!({ "Untagged": familiar(name) }),
        Removed::Image(id) => json!({ "Deleted": id }),
        Removed::Layer { chain_id, .. } => json!({ "Deleted": chain_id }),
    }
}

pub async fn prune(engine: &Engine, call: &Call) -> Result<Response<Body>, Failure> {
    let filters = Filters::parse(call.one("filters"), &["dangling", "label", "label!", "until"])?;
    let only_dangling = filters.flag("dangling", true)?;
    if filters.values("until").count() > 1 {
        return Err(Failure::new(400, "more than one until filter specified"));
    }
    let before = until(&filters)?;
    let images = engine.images().list();
    let mut removed = Vec::new();
    for image in &images {
        let nameless = image.tags.is_empty() && image.digests.is_empty();
        let labels = labels(image);
        let kept = (has_children(&images, image) && (nameless || only_dangling))
            || before.is_some_and(|before| created(image).is_none_or(|created| created > before))
            || !filters.labels_match("label", &labels)
            || (filters.has("label!") && filters.labels_match("label!", &labels))
            || (only_dangling && !image.tags.is_empty());
        if kept {
            continue;
        }
        let names = image.tags.iter().chain(&image.digests).cloned();
        for name in if nameless { vec![image.id.clone()] } else { names.collect() } {
            match engine.remove_image(&name, Removal::default()).await {
                Ok(done) => removed.extend(done),
                // A container needs it, or it went with the name before.
                Err(tug_engine::Error::Conflict(_) | tug_engine::Error::NotFound(_)) => {}
                Err(error) => tracing::warn!(image = name, %error, "can't prune"),
            }
        }
    }
    let freed = |removed: &Removed| match removed {
        Removed::Layer { bytes, .. } => *bytes,
        _ => 0,
    };
    let bytes: u64 = removed.iter().map(freed).sum();
    let deleted = if removed.is_empty() { Value::Null } else { removed.iter().map(shown).collect() };
    Ok(reply::json(&json!({ "ImagesDeleted": deleted, "SpaceReclaimed": bytes })))
}
