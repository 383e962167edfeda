//! `GET /images/json`, and which images filters choose.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Response;
use serde_json::{Value, json};
use tug_engine::images::reference::Reference;
use tug_engine::{Engine, Image};

use super::call::Call;
use super::filters::{Filters, glob};
use super::{familiar, familiar_all};
use crate::reply::{self, Body, Failure};
use crate::timestamp;

const FILTERS: &[&str] = &["dangling", "label", "before", "since", "reference", "until"];

pub fn list(engine: &Engine, call: &Call) -> Result<Response<Body>, Failure> {
    let mut filters = Filters::parse(call.one("filters"), FILTERS)?;
    // What clients sent before there were filters.
    if call.minor < 25 && !filters.has("reference") && !call.one("filter").is_empty() {
        filters.add("reference", call.one("filter"));
    }
    let dangling = filters.flag("dangling", false)?;
    let span = Span::of(engine, &filters)?;
    let images = engine.images().list();
    let shared = (call.minor >= 42 && call.flag("shared-size")).then(|| uses(&images));
    let containers = engine.containers();
    let mut found = Vec::new();
    for image in &images {
        if !span.contains(created(image)) || !filters.labels_match("label", &labels(image)) {
            continue;
        }
        let (mut tags, mut digests) = (familiar_all(&image.tags), familiar_all(&image.digests));
        if filters.has("reference") {
            tags = matching(&filters, &image.tags)?;
            digests = matching(&filters, &image.digests)?;
        }
        let is_parent = has_children(&images, image);
        let nameless = tags.is_empty() && digests.is_empty();
        let left_out = if nameless {
            let hidden = is_parent && (!call.flag("all") || dangling);
            hidden || (filters.has("dangling") && !dangling) || filters.has("reference")
        } else {
            dangling && !tags.is_empty()
        };
        if left_out || (dangling && is_parent) {
            continue;
        }
        let used = containers.iter().filter(|container| container.image == image.id).count();
        let mut summary = json!({
            "Id": image.id,
            "ParentId": image.parent.clone().unwrap_or_default(),
            "RepoTags": tags,
            "RepoDigests": digests,
            "Created": created(image).map_or(0, seconds),
            "Size": image.unpacked_bytes(),
            "SharedSize": shared.as_ref().map_or(-1, |uses| shared_bytes(image, uses)),
            "Labels": image.config.config().as_ref().and_then(|config| config.labels().clone()),
            "Containers": if call.minor < 51 { -1 } else { i64::try_from(used).unwrap_or(i64::MAX) },
        });
        if call.minor < 44 {
            summary["VirtualSize"] = summary["Size"].clone();
        }
        if call.minor < 43 && nameless {
            summary["RepoTags"] = json!(["<none>:<none>"]);
            summary["RepoDigests"] = json!(["<none>@<none>"]);
        }
        found.push(summary);
    }
    found.sort_by_key(|summary| std::cmp::Reverse(summary["Created"].as_i64()));
    Ok(reply::json(&found))
}

/// Between an image, or a point in time, and another.
struct Span {
    since: Option<SystemTime>,
    before: Option<SystemTime>,
}

impl Span {
    fn of(engine: &Engine, filters: &Filters) -> Result<Self, Failure> {
        let mut before = until(filters)?;
        for name in filters.values("before") {
            let bound = created(&engine.images().find(name)?);
            before = before.into_iter().chain(bound).min();
        }
        let mut since = None;
        for name in filters.values("since") {
            since = since.max(created(&engine.images().find(name)?));
        }
        Ok(Self { since, before })
    }

    fn contains(&self, created: Option<SystemTime>) -> bool {
        let after = |since| created.is_some_and(|created| created > since);
        let earlier = |before| created.is_some_and(|created| created < before);
        self.since.is_none_or(after) && self.before.is_none_or(earlier)
    }
}

/// The earliest of the filter's points in time.
pub fn until(filters: &Filters) -> Result<Option<SystemTime>, Failure> {
    let now = SystemTime::now();
    let invalid = |why: String| Failure::new(400, format!("invalid value for 'until' filter: {why}"));
    let times = filters.values("until").map(|text| timestamp::parse(text, now).map_err(invalid));
    Ok(times.collect::<Result<Vec<_>, _>>()?.into_iter().min())
}

/// As its maker says.
pub fn created(image: &Image) -> Option<SystemTime> {
    let text = image.config.created().as_ref()?;
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn labels(image: &Image) -> HashMap<String, String> {
    image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default()
}

pub fn has_children(images: &[Image], parent: &Image) -> bool {
    images.iter().any(|image| image.parent.as_ref() == Some(&parent.id))
}

/// Names that a pattern fits, be it written as people do or in full.
fn matching(filters: &Filters, names: &[String]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let reference = Reference::parse(name)?;
        let forms = [familiar(name), reference.familiar_name(), name.clone(), reference.name()];
        for pattern in filters.values("reference") {
            let fits = forms.iter().map(|form| glob(pattern, form)).collect::<Option<Vec<bool>>>();
            let fits = fits.ok_or_else(|| Failure::new(500, "syntax error in pattern"))?;
            if fits.contains(&true) {
                found.push(familiar(name));
                break;
            }
        }
    }
    Ok(found)
}

/// How many images have each layer.
fn uses(images: &[Image]) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    for chain_id in images.iter().flat_map(|image| &image.chain_ids) {
        *uses.entry(chain_id.clone()).or_default() += 1;
    }
    uses
}

fn shared_bytes(image: &Image, uses: &HashMap<String, usize>) -> i64 {
    let layers = image.chain_ids.iter().zip(&image.layers);
    let shared = layers.filter(|(chain_id, _)| uses.get(*chain_id).is_some_and(|count| *count > 1));
    shared.map(|(_, layer)| i64::try_from(layer.unpacked_bytes).unwrap_or(i64::MAX)).sum()
}

/// One of `Value`'s fields, as Docker leaves it out when it says nothing.
pub fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document[name].as_str().unwrap_or_default()
}
