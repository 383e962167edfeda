//! Images come and go: pull, import, push, load, save.

use std::sync::Arc;

use futures::StreamExt;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tug_engine::images::reference::{self, Reference};
use tug_engine::{Commit, Engine, Loaded, PullOptions, PullProgress, PushProgress};

use super::call::Call;
use super::changes;
use super::lines::{self, Lines, told, told_always};
use super::{another_platform, failure, familiar, find, repo_and_tag};
use crate::reply::{Body, Failure};

pub async fn create(engine: &Arc<Engine>, call: &Call, body: Incoming) -> Result<Response<Body>, Failure> {
    if call.one("fromImage").is_empty() { import(engine, call, body).await } else { pull(engine.clone(), call).await }
}

async fn pull(engine: Arc<Engine>, call: &Call) -> Result<Response<Body>, Failure> {
    let platform = call.platform()?;
    // `docker pull --all-tags` of long ago sends a colon without a tag.
    let mut reference = Reference::parse_as_written(call.one("fromImage").trim_end_matches(':'))?;
    let tag = call.one("tag");
    if reference::is_digest(tag) {
        reference.digest = Some(tag.to_owned());
        reference.tag = None;
    } else if !tag.is_empty() {
        reference = reference.with_tag(tag)?;
    }
    if reference.familiar_name() == "scratch" {
        return Err(Failure::new(403, "'scratch' is a reserved name"));
    }
    let options = PullOptions { auth: call.auth(), platform: platform.clone() };
    let lines = Lines::default();
    let telling = lines.clone();
    let work = async move {
        let newest = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (seen, bars) = (newest.clone(), telling.clone());
        let report = move |step: PullProgress| {
            if let PullProgress::Recorded { newer: true, .. } = step {
                seen.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            pull_line(&bars, &step);
        };
        let pulled = engine.images().pull_as(reference.clone(), options, report).await;
        let images = pulled.map_err(failure)?;
        let familiar = reference.familiar();
        telling.status(
            "",
            match newest.load(std::sync::atomic::Ordering::Relaxed) {
                true => format!("Status: Downloaded newer image for {familiar}"),
                false => format!("Status: Image is up to date for {familiar}"),
            },
        );
        if let Some(platform) = platform {
            for image in images {
                let own = tug_engine::Platform::of_image(&image.config);
                if !platform.runs(&own) {
                    telling.status("", format!("WARNING: {}", another_platform(&familiar, &own, &platform)));
                }
            }
        }
        Ok(())
    };
    told(lines, work).await
}

fn pull_line(lines: &Lines, step: &PullProgress) {
    match step {
        PullProgress::Begun { repository, tag } => lines.status(tag, format!("Pulling from {repository}")),
        PullProgress::Exists { digest } => lines.step(&short(digest), "Already exists"),
        PullProgress::Waiting { digest } => lines.step(&short(digest), "Pulling fs layer"),
        PullProgress::Layer { digest, current, total } => lines.bar(&short(digest), "Downloading", *current, *total),
        PullProgress::Fetched { digest } => {
            lines.step(&short(digest), "Verifying Checksum");
            lines.step(&short(digest), "Download complete");
        }
        PullProgress::Extracting { digest, total } => lines.bar(&short(digest), "Extracting", *total, *total),
        PullProgress::Done { digest } => lines.step(&short(digest), "Pull complete"),
        PullProgress::Recorded { digest, .. } => lines.status("", format!("Digest: {digest}")),
    }
}

/// Docker shows a layer by the first twelve digits of its digest.
fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

async fn import(engine: &Arc<Engine>, call: &Call, body: Incoming) -> Result<Response<Body>, Failure> {
    let platform = call.platform()?;
    let source = call.one("fromSrc").to_owned();
    let tag = repo_and_tag(call.one("repo"), call.one("tag"))?;
    let comment = match call.one("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let mut config = Value::Null;
    changes::apply(&mut config, &call.all("changes")).map_err(|words| Failure::new(400, words))?;
    let lines = Lines::default();
    let (engine, telling) = (engine.clone(), lines.clone());
    let archive = if source == "-" { Some(received(&engine, body).await?) } else { None };
    let work = async move {
        let archive = match archive {
            Some(archive) => archive,
            None => fetched(&engine, &source, &telling).await?,
        };
        let commit = Commit { config, comment, platform, ..Commit::default() };
        let id = engine.images().import(archive, commit, tag.as_ref()).await.map_err(failure)?;
        telling.status("", id);
        Ok(())
    };
    told(lines, work).await
}

/// A full disk in words that say what it is; what was laid down is gone with the file.
fn not_received(error: std::io::Error) -> Failure {
    let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded].contains(&error.kind());
    let words = if full { "no space left on device".to_owned() } else { error.to_string() };
    Failure::new(500, format!("receiving the archive: {words}"))
}

/// The body, laid down whole.
async fn received(engine: &Engine, mut body: Incoming) -> Result<NamedTempFile, Failure> {
    let archive = engine.images().scratch_file().map_err(not_received)?;
    let mut file = tokio::fs::File::create(archive.path()).await.map_err(not_received)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(400, format!("receiving the archive: {error}")))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).await.map_err(not_received)?;
        }
    }
    file.flush().await.map_err(not_received)?;
    Ok(archive)
}

async fn fetched(engine: &Engine, source: &str, lines: &Lines) -> Result<NamedTempFile, Failure> {
    let url = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
    let archive = engine.images().scratch_file().map_err(not_received)?;
    let mut file = tokio::fs::File::create(archive.path()).await.map_err(not_received)?;
    let mut download = engine.images().download(&url).await.map_err(failure)?;
    lines.status("", format!("Downloading from {url}"));
    let mut current = 0;
    while let Some(piece) = download.pieces.next().await {
        let piece = piece.map_err(not_received)?;
        current += piece.len() as u64;
        file.write_all(&piece).await.map_err(not_received)?;
        lines.bar("", "Importing", current, download.total);
    }
    file.flush().await.map_err(not_received)?;
    Ok(archive)
}

pub async fn push(engine: &Arc<Engine>, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    let reference = match repo_and_tag(name, call.one("tag"))? {
        Some(reference) if !call.one("tag").is_empty() => reference,
        _ => Reference::parse_as_written(name)?,
    };
    if let Some(platform) = call.json_platform("platform", 46)? {
        find(engine, &reference.to_string(), Some(&platform))?;
    }
    let (engine, auth, lines) = (engine.clone(), call.auth(), Lines::default());
    let telling = lines.clone();
    let work = async move {
        let report = move |step: PushProgress| push_line(&telling, &step);
        let pushed = engine.images().push(reference, auth, report).await;
        pushed.map_err(failure)
    };
    told(lines, work).await
}

fn push_line(lines: &Lines, step: &PushProgress) {
    match step {
        PushProgress::Begun { repository } => {
            lines.status("", format!("The push refers to repository [{repository}]"));
        }
        PushProgress::Preparing { layer } => lines.step(&short(layer), "Preparing"),
        PushProgress::Exists { layer } => lines.step(&short(layer), "Layer already exists"),
        PushProgress::Layer { layer, current, total } => lines.bar(&short(layer), "Pushing", *current, *total),
        PushProgress::Pushed { layer } => lines.step(&short(layer), "Pushed"),
        PushProgress::Mounted { layer, from } => lines.step(&short(layer), &format!("Mounted from {from}")),
        PushProgress::Recorded { tag, digest, bytes } => {
            lines.status("", format!("{tag}: digest: {digest} size: {bytes}"));
            let aux = json!({ "Tag": tag, "Digest": digest, "Size": bytes });
            lines.add(json!({ "progressDetail": {}, "aux": aux }));
        }
    }
}

pub async fn save(engine: &Engine, names: Vec<String>, call: &Call) -> Result<Response<Body>, Failure> {
    if let Some(platform) = call.json_platform("platform", 48)? {
        for name in &names {
            find(engine, name, Some(&platform)).map_err(|failure| match failure.status {
                404 if engine.images().find(name).is_ok() => {
                    Failure::new(500, format!("no suitable export target found for platform {platform}"))
                }
                _ => failure,
            })?;
        }
    }
    Ok(lines::bytes("application/x-tar", engine.images().save(&names).await.map_err(failure)?))
}

/// `docker load`: the archive is the body. It is laid down whole before it is read, since it is read out of order.
pub async fn load(engine: &Arc<Engine>, call: &Call, body: Incoming) -> Result<Response<Body>, Failure> {
    let (engine, lines) = (engine.clone(), Lines::default());
    let archive = received(&engine, body).await?;
    let (telling, bars) = (lines.clone(), lines.clone());
    let quiet = call.flag_or("quiet", true);
    let work = async move {
        let report = move |layer: &str, current, total| {
            if !quiet {
                bars.bar(&short(layer), "Loading layer", current, total);
            }
        };
        let loaded = engine.images().load_as(archive.path(), report).await;
        let loaded = loaded.map_err(failure)?;
        loaded_lines(&loaded).into_iter().for_each(|line| telling.add(json!({ "stream": line })));
        Ok(())
    };
    told_always(lines, work).await
}

fn loaded_lines(loaded: &[Loaded]) -> Vec<String> {
    let mut lines = Vec::new();
    for image in loaded {
        for tag in &image.tags {
            let name = familiar(tag);
            if let Some((_, id)) = image.renamed.iter().find(|(renamed, _)| renamed == tag) {
                lines.push(format!(
                    "The image {name} already exists, renaming the old one with ID {id} to empty string\n"
                ));
            }
            lines.push(format!("Loaded image: {name}\n"));
        }
    }
    // Ids are told where there is nothing else to tell the last image by.
    if loaded.last().is_none_or(|image| image.tags.is_empty()) {
        lines.push(loaded.iter().map(|image| format!("Loaded image ID: {}\n", image.id)).collect());
    }
    lines
}
