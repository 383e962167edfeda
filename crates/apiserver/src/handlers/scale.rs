//! `/scale`: how many of a workload there are to be, as `autoscaling/v1` `Scale`, whatever kind it is.

use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use tug_api::field::FieldError;
use tug_api::{Kind, Selector};

use super::Call;
use super::decode;
use super::options::WriteOptions;
use super::write::{Patch, PatchKind, named};
use crate::api::Inbound;
use crate::body::Body;
use crate::negotiate;
use crate::registry::Part;
use crate::status::Status;

pub async fn answer(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let key = call.key();
    let registry = &call.api.registry;
    if call.info.verb == "get" {
        let object = registry.read(call.kind, &key)?;
        return call.shown(StatusCode::OK, of(call.kind, &object.value().map_err(Status::internal)?)?);
    }
    let (options, wanted, patch);
    if call.info.verb == "patch" {
        patch = Some(Patch::read(call, body).await?);
        options = WriteOptions::parse("PatchOptions", call.query)?;
        wanted = Value::Null;
    } else {
        options = WriteOptions::parse("UpdateOptions", call.query)?;
        patch = None;
        let encoding = negotiate::body_encoding(call.headers)?;
        let scale = decode::parse(&body.read().await?, encoding, "Scale")?.value;
        check_kind(&scale)?;
        wanted = named(scale, &key)?;
    }
    let change = |mut object: Value| {
        let scale = match &patch {
            Some(patch) => named(patched(call, patch, &of(call.kind, &object)?)?, &key)?,
            None => wanted.clone(),
        };
        let replicas = &scale["spec"]["replicas"];
        let count = match replicas {
            Value::Null => 0,
            number => number.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
                let found = super::golang::type_name(number);
                Status::bad_request(format!(
                    "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal {found} into Go struct field ScaleSpec.spec.replicas of type int32"
                ))
            })?,
        };
        if count < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid_kind("autoscaling", "Scale", &key.name, vec![error]));
        }
        object["spec"]["replicas"] = count.into();
        for field in ["resourceVersion", "uid"] {
            let given = scale["metadata"][field].as_str().unwrap_or_default();
            object["metadata"][field] =
                if given.is_empty() && field == "uid" { object["metadata"][field].clone() } else { given.into() };
        }
        Ok(object)
    };
    let object = registry.update(call.kind, &key, Part::Spec, call.writing(&options), &change).await?;
    call.shown(StatusCode::OK, of(call.kind, &object.value().map_err(Status::internal)?)?)
}

fn check_kind(scale: &Value) -> Result<(), Status> {
    let is = |field: &str, expected: &str| matches!(scale[field].as_str(), None | Some("")) || scale[field] == expected;
    if is("kind", "Scale") && is("apiVersion", "autoscaling/v1") {
        return Ok(());
    }
    let (kind, version) =
        (scale["kind"].as_str().unwrap_or_default(), scale["apiVersion"].as_str().unwrap_or_default());
    Err(Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a Scale: expected kind Scale of autoscaling/v1"
    )))
}

/// A Scale has no merge keys, so that a strategic patch of it is a merge patch.
fn patched(call: &Call<'_>, patch: &Patch, scale: &Value) -> Result<Value, Status> {
    let kind = if patch.kind == PatchKind::Strategic { PatchKind::Merge } else { patch.kind };
    Patch { kind, bytes: patch.bytes.clone() }.apply(call.kind, scale)
}

fn of(kind: &Kind, object: &Value) -> Result<Value, Status> {
    let selector = &object["spec"]["selector"];
    let selector = if kind.kind == "ReplicationController" {
        let labels: std::collections::BTreeMap<String, String> =
            serde_json::from_value(selector.clone()).unwrap_or_default();
        Selector::from_labels(&labels)
    } else {
        let selector: LabelSelector = serde_json::from_value(selector.clone()).unwrap_or_default();
        Selector::from_label_selector(&selector).map_err(Status::internal)?
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.to_string() },
    });
    // As upstream, zero is left out of the spec.
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|n| *n != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    Ok(scale)
}
