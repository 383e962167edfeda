//! `/images/…`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tug_engine::{Auth, Engine, Image, PullProgress, Removal, Removed};

use crate::reply::{self, Body, Failure};

/// Progress lines that may wait for a slow client; further ones are left out.
const MOST_WAITING: usize = 256;

pub fn list(engine: &Engine) -> Response<Body> {
    let images: Vec<Value> = engine.images().list().iter().map(summary).collect();
    reply::json(&images)
}

pub fn inspect(engine: &Engine, name: &str) -> Result<Response<Body>, Failure> {
    let image = engine.images().resolve(name).ok_or_else(|| Failure::new(404, format!("No such image: {name}")))?;
    let created = jiff::Timestamp::try_from(image.created).unwrap_or_default();
    let document = json!({
        "Id": image.id,
        "RepoTags": familiar_all(&image.tags),
        "RepoDigests": familiar_all(&image.digests),
        "Created": created.to_string(),
        "Size": image.size_bytes,
        "Architecture": image.config.architecture().to_string(),
        "Os": image.config.os().to_string(),
        "Config": image.config.config().as_ref(),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs().diff_ids() },
    });
    Ok(reply::json(&document))
}

pub async fn remove(engine: &Engine, name: &str) -> Result<Response<Body>, Failure> {
    let removed = engine.remove_image(name, Removal::default()).await?;
    let removed = removed.into_iter().map(|removed| match removed {
        Removed::Untagged(name) => json!({ "Untagged": familiar(&name) }),
        Removed::Image(id) => json!({ "Deleted": id }),
        Removed::Layer { chain_id, .. } => json!({ "Deleted": chain_id }),
    });
    Ok(reply::json(&removed.collect::<Vec<_>>()))
}

/// `docker load`: the archive is the body. It is laid down whole before it is read, since it is read out of order.
pub async fn load(engine: &Engine, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let failed = |error: std::io::Error| Failure::new(500, format!("receiving the archive: {error}"));
    let archive = engine.images().scratch_file().map_err(failed)?;
    let mut file = tokio::fs::File::create(archive.path()).await.map_err(failed)?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(400, format!("receiving the archive: {error}")))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).await.map_err(failed)?;
        }
    }
    file.flush().await.map_err(failed)?;
    let loaded = engine.images().load(archive.path()).await?;
    let names = loaded.into_iter().flat_map(|image| if image.tags.is_empty() { vec![image.id] } else { image.tags });
    let lines = names.map(|name| json!({ "stream": format!("Loaded image: {}\n", familiar(&name)) }));
    Ok(reply::json_lines(futures::stream::iter(lines.collect::<Vec<_>>())))
}

/// `docker pull`: `fromImage` and `tag`, progress as lines of JSON, an error in the last of them.
pub fn create(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let query: HashMap<_, _> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let image = query.get("fromImage").filter(|image| !image.is_empty());
    let image = image.ok_or_else(|| Failure::new(501, "importing an image is not supported yet"))?;
    let reference = match query.get("tag").filter(|tag| !tag.is_empty()) {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) => format!("{image}:{tag}"),
        None => image.clone(),
    };
    let (lines, answer) = mpsc::channel(MOST_WAITING);
    tokio::spawn(async move {
        let progress = lines.clone();
        let report = move |step: PullProgress| {
            // A client that doesn't keep up misses steps, never the outcome.
            let _full_or_gone = progress_line(&step).map(|line| progress.try_send(line));
        };
        let outcome = match engine.images().pull(&reference, Auth::Anonymous, report).await {
            Ok(image) => json!({ "status": format!("Status: Image is up to date for {}", shown(&image, &reference)) }),
            Err(error) => json!({ "errorDetail": { "message": error.to_string() }, "error": error.to_string() }),
        };
        let _client_gone = lines.send(outcome).await;
    });
    Ok(reply::json_lines(ReceiverStream::new(answer)))
}

fn progress_line(step: &PullProgress) -> Option<Value> {
    // Docker shows a layer by the first twelve digits of its digest.
    let short = |digest: &str| digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    Some(match step {
        PullProgress::Layer { digest, current, total } => json!({
            "status": "Downloading", "id": short(digest), "progressDetail": { "current": current, "total": total },
        }),
        PullProgress::Extracting { digest, .. } => {
            json!({ "status": "Extracting", "id": short(digest), "progressDetail": {} })
        }
        PullProgress::Done { digest } => {
            json!({ "status": "Pull complete", "id": short(digest), "progressDetail": {} })
        }
        _ => return None,
    })
}

fn shown(image: &Image, reference: &str) -> String {
    image.tags.iter().find(|tag| tag.ends_with(reference)).map_or_else(|| reference.to_owned(), |tag| familiar(tag))
}

fn summary(image: &Image) -> Value {
    let created = image.created.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": familiar_all(&image.tags),
        "RepoDigests": familiar_all(&image.digests),
        "Created": created,
        "Size": image.size_bytes,
        "SharedSize": -1,
        "Labels": image.config.config().as_ref().and_then(|c| c.labels().clone()),
        "Containers": -1,
    })
}

fn familiar_all(names: &[String]) -> Vec<String> {
    names.iter().map(|name| familiar(name)).collect()
}

/// A name as Docker shows it: without `docker.io/library/`.
fn familiar(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name).to_owned()
}
