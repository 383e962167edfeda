//! Server-side apply: a configuration that says how some fields are to be, and who wants them so.

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tug_api::apply::{self, ApplyError, Writer};
use tug_api::{Kind, golang};

use super::Call;
use super::decode::group_version;
use super::options::WriteOptions;
use super::write::named;
use crate::api::Inbound;
use crate::body::Body;
use crate::negotiate::{self, Encoding};
use crate::registry::Part;
use crate::status::Status;

const MEDIA_TYPE: &str = "application/apply-patch+yaml";

pub fn is_asked(call: &Call<'_>) -> bool {
    negotiate::media_type(call.headers) == MEDIA_TYPE
}

/// Applies the body to the object, which is made if it isn't there.
pub async fn apply(call: &Call<'_>, body: Inbound, part: Part) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse_apply(call.query)?;
    let key = call.key();
    // YAML is what the media type says, and JSON is YAML.
    let bytes = body.read().await?;
    check_kind(call.kind, &bytes)?;
    let configuration = call.checked(call.kind, &bytes, Encoding::Yaml, options.fields)?;
    let configuration = named(configuration, &key)?;
    let writing = call.writing(&options);
    let applied = |live: Option<&Value>| {
        let writer = Writer { manager: writing.manager, subresource: writing.subresource, now: Timestamp::now() };
        apply::apply(call.kind, live, &configuration, &writer, options.force).map_err(|error| refused(call, error))
    };
    let registry = &call.api.registry;
    if registry.cache.get(call.kind, &key).is_none() && part == Part::Spec {
        if configuration["metadata"]["uid"].is_string() {
            return Err(Status::conflict(
                call.kind,
                &key.name,
                "uid mismatch: the provided object specified uid, and no existing object was found",
            ));
        }
        call.may_create()?;
        let object = registry.create(call.kind, &key.namespace, applied(None)?, writing).await?;
        return call.created(&object);
    }
    let change = |live: Value| applied(Some(&live));
    let object = registry.update(call.kind, &key, part, writing, &change).await?;
    call.object(StatusCode::OK, &object)
}

/// The configuration must say of which kind it is, and be of the path's.
fn check_kind(kind: &Kind, bytes: &[u8]) -> Result<(), Status> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
    }
    let Identity { api_version, kind: name } = serde_norway::from_slice(bytes).map_err(|error| {
        let error = golang::yaml_error(&error.to_string());
        Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {error}"))
    })?;
    if api_version == group_version(kind) && name == kind.kind {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={name}")))
}

fn refused(call: &Call<'_>, error: ApplyError) -> Status {
    let message = error.to_string();
    let ApplyError::Conflicts(conflicts) = error else { return Status::bad_request(message) };
    let mut status = Status::conflict(call.kind, &call.info.name, "").saying(message);
    for conflict in conflicts {
        status = status.with_cause("FieldManagerConflict", conflict.message(), &conflict.path);
    }
    // Upstream names the fields alone here.
    if let Some(details) = &mut status.details {
        (details.name, details.group, details.kind) = Default::default();
    }
    status
}
