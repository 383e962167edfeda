//! `/scale`: how many of a workload there are to be, as `autoscaling/v1` `Scale`, whatever kind it is.

use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use tug_api::field::FieldError;
use tug_api::kinds::bodies;
use tug_api::{Kind, Selector};

use super::Call;
use super::options::WriteOptions;
use super::write::{Patch, named};
use crate::api::Inbound;
use crate::body::Body;
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
        let scale = call.decode_as(&bodies::SCALE, body, options.fields).await?;
        wanted = named(scale, &key)?;
    }
    let change = |mut object: Value| {
        let scale = match &patch {
            Some(patch) => call.patched(patch, &bodies::SCALE, &key, of(call.kind, &object)?, options.fields)?,
            None => wanted.clone(),
        };
        let replicas = &scale["spec"]["replicas"];
        let count = replicas.as_i64().unwrap_or(0);
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
