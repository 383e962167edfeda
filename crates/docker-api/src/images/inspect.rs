//! What there is to tell of one image.

use http::Response;
use serde_json::{Map, Value, json};
use tug_engine::{Engine, Image};

use super::call::Call;
use super::list::{seconds, text};
use super::{familiar_all, find};
use crate::reply::{self, Body, Failure};

/// Fields of an image's `Config` that are told (OCI's and Docker's own); of others images have nothing to say.
const CONFIG: &[&str] = &[
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];
/// The time that Go's programs say when there is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub fn inspect(engine: &Engine, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    if call.minor >= 48 && call.flag("manifests") && !call.one("platform").is_empty() {
        let words = "conflicting options: manifests and platform options cannot both be set";
        return Err(Failure::new(400, words));
    }
    let image = find(engine, name, call.json_platform("platform", 49)?.as_ref())?;
    let document = engine.images().document(&image.id)?;
    let tagged = image.tagged.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let history = document["history"].as_array();
    let comment = Some(text(&document, "comment")).filter(|comment| !comment.is_empty());
    let comment = comment.or_else(|| Some(text(history?.last()?, "comment"))).unwrap_or_default();
    let mut shown = json!({
        "Id": image.id,
        "RepoTags": familiar_all(&image.tags),
        "RepoDigests": familiar_all(&image.digests),
        "Parent": image.parent.clone().unwrap_or_default(),
        "Comment": comment,
        "Created": document["created"],
        "DockerVersion": text(&document, "docker_version"),
        "Author": text(&document, "author"),
        "Config": config(&document["config"], call.minor),
        "Architecture": text(&document, "architecture"),
        "Variant": document["variant"],
        "Os": text(&document, "os"),
        "OsVersion": document["os.version"],
        "Size": image.unpacked_bytes(),
        "GraphDriver": graph_driver(engine, &image)?,
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
        },
        "Metadata": { "LastTagTime": tagged.map_or(NEVER.to_owned(), |time| time.to_string()) },
    });
    let fields = shown.as_object_mut().expect("it was written as one");
    if call.minor < 44 {
        fields.insert("VirtualSize".into(), image.unpacked_bytes().into());
        if fields["Created"].is_null() {
            fields.insert("Created".into(), NEVER.into());
        }
    }
    if call.minor < 45 {
        fields.insert("Container".into(), text(&document, "container").into());
        fields.insert("ContainerConfig".into(), document["container_config"].clone());
    }
    fields.retain(|name, value| !value.is_null() || name == "ContainerConfig");
    Ok(reply::json(&shown))
}

/// Fields that Docker always told until some version are there though they say nothing.
fn config(given: &Value, minor: u32) -> Value {
    let mut config = json!({
        "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "", "Volumes": null,
        "WorkingDir": "",
    });
    if minor < 50 {
        config = json!({
            "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Cmd": null, "Domainname": "",
            "Entrypoint": null, "Env": null, "Hostname": "", "Image": "", "Labels": null, "OnBuild": null,
            "OpenStdin": false, "StdinOnce": false, "Tty": false, "User": "", "Volumes": null, "WorkingDir": "",
        });
    }
    let given: Map<String, Value> = given.as_object().cloned().unwrap_or_default();
    let known = given.into_iter().filter(|(name, value)| CONFIG.contains(&name.as_str()) && !value.is_null());
    config.as_object_mut().expect("it was written as one").extend(known);
    config
}

/// Where the layers lie. They are never mounted by themselves: of a driver's directories there are those that hold them.
fn graph_driver(engine: &Engine, image: &Image) -> Result<Value, Failure> {
    let layers = engine.images().layers(&image.id)?;
    let mut data = Map::new();
    if let Some((top, below)) = layers.split_first() {
        data.insert("UpperDir".into(), top.to_string_lossy().into());
        let below: Vec<_> = below.iter().map(|layer| layer.to_string_lossy()).collect();
        if !below.is_empty() {
            data.insert("LowerDir".into(), below.join(":").into());
        }
    }
    Ok(json!({ "Name": "overlay2", "Data": data }))
}

pub fn history(engine: &Engine, name: &str, call: &Call) -> Result<Response<Body>, Failure> {
    let image = find(engine, name, call.json_platform("platform", 48)?.as_ref())?;
    let document = engine.images().document(&image.id)?;
    let mut layers = image.layers.iter();
    let mut entries = Vec::new();
    for step in document["history"].as_array().into_iter().flatten() {
        let is_empty = step["empty_layer"].as_bool().unwrap_or_default();
        let bytes = if is_empty {
            0
        } else {
            let layer = layers.next();
            layer.ok_or_else(|| Failure::new(500, "too many non-empty layers in History section"))?.unpacked_bytes
        };
        let created = step["created"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        entries.push(json!({
            "Id": "<missing>",
            "Created": created.map_or(0, |time| seconds(time.into())),
            "CreatedBy": text(step, "created_by"),
            "Tags": null,
            "Size": bytes,
            "Comment": text(step, "comment"),
        }));
    }
    entries.reverse();
    // The newest steps are the image's own and its parents', as far as these are known.
    let mut next = Some(image);
    for entry in &mut entries {
        let Some(image) = next else { break };
        entry["Id"] = image.id.clone().into();
        if !image.tags.is_empty() {
            entry["Tags"] = familiar_all(&image.tags).into();
        }
        next = image.parent.and_then(|parent| engine.images().find(&parent).ok());
    }
    Ok(reply::json(&entries))
}
