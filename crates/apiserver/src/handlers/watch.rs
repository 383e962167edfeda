//! Watches: a stream of JSON events over one response.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tug_api::field::FieldError;
use tug_api::table::IncludeObject;
use tug_api::{FieldErrors, Kind, Object};

use super::Call;
use super::decode::group_version;
use super::list::not_honoured;
use super::options::refused;
use super::read::{revision, shaped};
use crate::body::{Body, BoxError};
use crate::cache::{Cache, Select, Subscription, WatchEvent, WatchKind};
use crate::negotiate::{Encoding, Shape};
use crate::registry::served;
use crate::status::Status;

/// Upstream's `--min-request-timeout`: a watch that doesn't say lasts up to twice as long.
const LASTS: Duration = Duration::from_secs(1800);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events that come together go out together, in chunks of about this many bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks between us and a slow connection.
const CHUNKS: usize = 4;

/// What a watcher wants to see.
struct View {
    kind: &'static Kind,
    shape: Shape,
    include: IncludeObject,
    bookmarks: bool,
    /// A table's columns come with its first event only.
    told_columns: bool,
}

pub async fn watch(call: &Call<'_>) -> Result<Response<Body>, Status> {
    if call.accept.encoding != Encoding::Json {
        return Err(Status::not_acceptable(&["application/json", "application/json;stream=watch"]));
    }
    if call.headers.contains_key(header::UPGRADE) {
        return Err(Status::bad_request("watches are not served over WebSocket; ask for them without an upgrade"));
    }
    let namespace = if call.kind.namespaced { call.info.namespace.as_str() } else { "" };
    let mut select = Select::parse(call.kind, namespace, call.query)?;
    if !call.info.name.is_empty() && call.query.get("fieldSelector").is_none() {
        select.fields = tug_api::FieldSelector::parse(&format!("metadata.name={}", call.info.name))
            .map_err(|error| Status::bad_request(error.to_string()))?;
    }
    check_options(call)?;
    let asked = revision(call.query.get("resourceVersion"))?;
    let initial = call.query.optional_flag("sendInitialEvents");
    let view = View {
        kind: call.kind,
        shape: call.accept.shape,
        include: call.include()?,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        told_columns: false,
    };
    let cache = &call.api.registry.cache;
    // A state has to be as new as was asked for; changes that are still to come are waited for by the watch itself.
    if let (Some(asked), Some(true)) = (asked, initial) {
        cache.wait_for(asked).await?;
    }
    let after = match (asked, initial) {
        // The state as it is comes first.
        (_, Some(true)) | (None | Some(0), None) => None,
        (None | Some(0), Some(false)) => Some(cache.revision()),
        (Some(at), _) => Some(at),
    };
    let subscription = match cache.subscribe(call.kind, select, after) {
        Ok(subscription) => subscription,
        // Upstream's way of saying so: the watch starts, and its first event is the error.
        Err(status) if status.code == 410 => return Ok(stream(futures::stream::once(async move { error(&status) }))),
        Err(status) => return Err(status),
    };
    let lasts = match call.query.integer("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        // Spread, so that not all come back at once.
        _ => LASTS.mul_f64(rand::rng().random_range(1.0..2.0)),
    };
    let (chunks, body) = mpsc::channel(CHUNKS);
    let watcher = Watcher {
        view,
        cache: cache.clone(),
        chunks,
        ends: Instant::now() + lasts,
        stop: call.api.stop.clone(),
        marks_initial: initial == Some(true),
    };
    tokio::spawn(watcher.run(subscription));
    Ok(stream(ReceiverStream::new(body)))
}

/// Combinations that upstream refuses (`ValidateListOptions` for watches).
fn check_options(call: &Call<'_>) -> Result<(), Status> {
    let query = call.query;
    let mut errors = FieldErrors::new();
    let how = query.get("resourceVersionMatch");
    let path = "resourceVersionMatch";
    if query.has("sendInitialEvents") && how != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(path, detail));
    }
    if let Some(how) = how {
        if !query.has("sendInitialEvents") {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(path, detail));
        }
        if how != "NotOlderThan" {
            errors.push(FieldError::not_supported(path, &how.into(), &["NotOlderThan"]));
        }
    }
    if query.get("continue").is_some() {
        errors.push(FieldError::forbidden("continue", "continue is forbidden for watch"));
    }
    errors.extend(not_honoured(query));
    if errors.is_empty() { Ok(()) } else { Err(refused("ListOptions", errors)) }
}

fn stream(chunks: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: &Status) -> Bytes {
    format!("{}\n", json!({ "type": "ERROR", "object": status.to_value() })).into()
}

/// Sends one subscription's events until its time is over, its reader is gone or too slow, or the server stops.
struct Watcher {
    view: View,
    cache: Arc<Cache>,
    chunks: mpsc::Sender<Bytes>,
    ends: Instant,
    stop: CancellationToken,
    marks_initial: bool,
}

impl Watcher {
    async fn run(mut self, subscription: Subscription) {
        let Subscription { first, mut events, revision } = subscription;
        let mut out = BytesMut::new();
        for event in &first {
            self.view.write(&mut out, event);
            if out.len() >= CHUNK_BYTES && !self.send(&mut out).await {
                return;
            }
        }
        if self.marks_initial && self.view.bookmarks {
            self.view.bookmark(&mut out, revision, true);
        }
        if !self.send(&mut out).await {
            return;
        }
        let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => Some(event),
                    // Too slow: the client starts again from where it is.
                    None => return,
                },
                _ = bookmarks.tick() => None,
                () = tokio::time::sleep_until(self.ends) => break,
                () = self.stop.cancelled() => break,
                () = self.chunks.closed() => return,
            };
            // Everything up to here is in our queue by now, so after draining it the bookmark is true.
            let reached = self.cache.revision();
            let bookmark = event.is_none();
            if let Some(event) = event {
                self.view.write(&mut out, &event);
            }
            while out.len() < CHUNK_BYTES || bookmark {
                let Ok(event) = events.try_recv() else { break };
                self.view.write(&mut out, &event);
            }
            if bookmark && self.view.bookmarks {
                self.view.bookmark(&mut out, reached, false);
            }
            if !self.send(&mut out).await {
                return;
            }
        }
        let reached = self.cache.revision();
        while let Ok(event) = events.try_recv() {
            self.view.write(&mut out, &event);
        }
        if self.view.bookmarks {
            self.view.bookmark(&mut out, reached, false);
        }
        // The client may be gone by now, which is as good.
        let _ = self.send(&mut out).await;
    }

    /// False when the client is gone, or hasn't taken a chunk in a while.
    async fn send(&self, out: &mut BytesMut) -> bool {
        const STALLED: Duration = Duration::from_secs(60);
        if out.is_empty() {
            return true;
        }
        let chunk = out.split().freeze();
        matches!(tokio::time::timeout(STALLED, self.chunks.send(chunk)).await, Ok(Ok(())))
    }
}

// === impl View ===

impl View {
    fn write(&mut self, out: &mut BytesMut, event: &WatchEvent) {
        let name = match event.kind {
            WatchKind::Added => "ADDED",
            WatchKind::Modified => "MODIFIED",
            WatchKind::Deleted => "DELETED",
        };
        let Some(json) = self.bytes(&event.object) else { return };
        out.reserve(json.len() + 40);
        out.put_slice(b"{\"type\":\"");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(&json);
        out.put_slice(b"}\n");
    }

    /// The object's own bytes, where they will do.
    fn bytes(&mut self, object: &Arc<Object>) -> Option<Bytes> {
        if self.shape == Shape::Object && self.kind.stored_as.is_none() {
            return Some(object.json().clone());
        }
        let object = served(self.kind, object.clone()).ok()?;
        let value = object.value().ok()?;
        let mut shaped = shaped(self.kind, self.shape, value, self.include);
        if self.shape == Shape::Table && std::mem::replace(&mut self.told_columns, true) {
            shaped["columnDefinitions"] = Value::Null;
        }
        Some(shaped.to_string().into())
    }

    fn bookmark(&self, out: &mut BytesMut, revision: u64, ends_initial: bool) {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.shape {
            Shape::Object => {
                json!({ "kind": self.kind.kind, "apiVersion": group_version(self.kind), "metadata": metadata })
            }
            Shape::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Shape::Table => self.table_bookmark(metadata),
        };
        out.put_slice(json!({ "type": "BOOKMARK", "object": object }).to_string().as_bytes());
        out.put_u8(b'\n');
    }

    /// Clients look for the mark in the row's object.
    fn table_bookmark(&self, metadata: Value) -> Value {
        let columns = self.kind.columns.len();
        let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": { "resourceVersion": metadata["resourceVersion"] },
            "columnDefinitions": null,
            "rows": [{ "cells": vec![Value::from(""); columns], "object": object }],
        })
    }
}
