//! `/status`, `/binding`, `/eviction`, `/token`, `/finalize` and their like.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tug_api::ObjectKey;
use tug_api::kinds::{self, bodies, core};

use super::delete::Wire;
use super::options::WriteOptions;
use super::scale;
use super::write::{Patch, named};
use super::{Call, apply};
use crate::admission::Operation;
use crate::api::Inbound;
use crate::body::Body;
use crate::registry::{Admit, Part, metadata_now};
use crate::respond;
use crate::status::Status;

pub async fn answer(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    match (call.info.resource.as_str(), call.info.subresource.as_str()) {
        (_, "status" | "approval") => part(call, body, Part::Status).await,
        ("pods", "ephemeralcontainers") => part(call, body, Part::Named("ephemeralcontainers")).await,
        (_, "scale") => scale::answer(call, body).await,
        ("pods", "binding") => bind(call, body).await,
        ("pods", "eviction") => evict(call, body).await,
        ("serviceaccounts", "token") => token(call, body).await,
        ("namespaces", "finalize") => finalize(call, body).await,
        ("pods", other) => {
            // Refused, not ignored: nothing would act on them.
            Err(Status::bad_request(format!("the subresource pods/{other} isn't supported by this version of Tug")))
        }
        _ => Err(Status::no_such_path()),
    }
}

/// Reads or writes one part of an object.
async fn part(call: &Call<'_>, body: Inbound, part: Part) -> Result<Response<Body>, Status> {
    let key = call.key();
    let registry = &call.api.registry;
    let object = match call.info.verb.as_str() {
        "get" => registry.read(call.kind, &key)?,
        "patch" => {
            if apply::is_asked(call) {
                return apply::apply(call, body, part).await;
            }
            let patch = Patch::read(call, body).await?;
            let options = WriteOptions::parse("PatchOptions", call.query)?;
            let change = |old: Value| call.patched(&patch, call.kind, &key, old, options.fields);
            registry.update(call.kind, &key, part, call.writing(&options), &change).await?
        }
        _ => {
            let options = WriteOptions::parse("UpdateOptions", call.query)?;
            let value = named(call.decode_as(call.kind, body, options.fields).await?, &key)?;
            registry.update(call.kind, &key, part, call.writing(&options), &|_| Ok(value.clone())).await?
        }
    };
    call.object(StatusCode::OK, &object)
}

/// Binds a pod to a node: what the scheduler decided.
pub async fn bind(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("CreateOptions", call.query)?;
    let binding = call.decode_as(&core::BINDING, body, options.fields).await?;
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    if !call.info.name.is_empty() && !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = if call.info.name.is_empty() { name } else { &call.info.name };
    let key = ObjectKey::new(call.info.namespace.as_str(), name);
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or_default();
    let mut errors = tug_api::FieldErrors::new();
    if !matches!(target["kind"].as_str(), None | Some("" | "Node")) {
        let supported = ["Node", "<empty>"];
        errors.push(tug_api::FieldError::not_supported("target.kind", &target["kind"], &supported));
    }
    if node.is_empty() {
        errors.push(tug_api::FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&core::BINDING, name, errors));
    }
    let uid = binding["metadata"]["uid"].as_str().unwrap_or_default();
    let change = |mut pod: Value| {
        if !uid.is_empty() && pod["metadata"]["uid"] != uid {
            let held = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {held}");
            return Err(Status::conflict(&core::POD, &key.name, &why));
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let why = format!("pod {} is being deleted, cannot be assigned to a host", key.name);
            return Err(Status::conflict(&core::BINDING, &key.name, &why).of("", "pods/binding"));
        }
        if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            let why = format!("pod {} is already assigned to node {bound:?}", key.name);
            return Err(Status::conflict(&core::BINDING, &key.name, &why).of("", "pods/binding"));
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            let why = format!("pod {} has non-empty .spec.schedulingGates", key.name);
            return Err(Status::conflict(&core::BINDING, &key.name, &why).of("", "pods/binding"));
        }
        pod["spec"]["nodeName"] = node.into();
        // What the scheduler says of the pod comes along.
        for field in ["annotations", "labels"] {
            for (name, value) in binding["metadata"][field].as_object().into_iter().flatten() {
                pod["metadata"][field][name] = value.clone();
            }
        }
        let scheduled = json!({
            "type": "PodScheduled",
            "status": "True",
            "observedGeneration": pod["metadata"]["generation"],
            "lastProbeTime": null,
            "lastTransitionTime": metadata_now(),
        });
        set_condition(&mut pod, scheduled);
        Ok(pod)
    };
    call.api.registry.update(&core::POD, &key, Part::AsGiven, call.writing(&options), &change).await?;
    Ok(respond::json(StatusCode::CREATED, &done()))
}

/// Puts a condition among a pod's, in place of the one of its type.
fn set_condition(pod: &mut Value, condition: Value) {
    match pod["status"]["conditions"].as_array_mut() {
        Some(held) => {
            held.retain(|other| other["type"] != condition["type"]);
            held.push(condition);
        }
        None => pod["status"]["conditions"] = json!([condition]),
    }
}

/// Deletes a pod as somebody would who minds disruption budgets; there are none to mind yet.
async fn evict(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let create = WriteOptions::parse("CreateOptions", call.query)?;
    let key = call.key();
    let eviction = call.decode_as(&bodies::EVICTION, body, create.fields).await?;
    let name = eviction["metadata"]["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != key.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let wire: Wire = match &eviction["deleteOptions"] {
        Value::Null => Wire::default(),
        options => serde_json::from_value(options.clone()).map_err(|error| {
            Status::bad_request(format!("Eviction in version \"v1\" cannot be handled as a Eviction: {error}"))
        })?,
    };
    let (mut options, _) = wire.checked()?;
    options.dry_run |= create.dry_run;
    let change = |mut pod: Value| {
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "observedGeneration": pod["metadata"]["generation"],
            "lastProbeTime": null,
            "lastTransitionTime": metadata_now(),
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        set_condition(&mut pod, condition);
        Ok(pod)
    };
    let runs = call.api.registry.read(call.kind, &key)?.value().map_err(Status::internal)?;
    // Why it goes is told to those who see it going.
    if runs["spec"]["nodeName"].is_string() && !matches!(runs["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
    {
        let writing = call.writing(&WriteOptions { dry_run: options.dry_run, ..create });
        call.api.registry.update(call.kind, &key, Part::AsGiven, writing, &change).await?;
    }
    call.api.registry.delete(call.kind, &key, &options, call).await?;
    Ok(respond::json(StatusCode::CREATED, &done()))
}

/// A token of a service account, for whoever may ask for one.
async fn token(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("CreateOptions", call.query)?;
    let mut request = call.decode_as(&bodies::TOKEN_REQUEST, body, options.fields).await?;
    call.admit(Operation::Create, Some(&mut request), None)?;
    let issued = call.api.access.issuer.request(&*call.api.access.objects, &call.key(), request)?;
    call.shown(StatusCode::CREATED, issued)
}

/// Takes a namespace's finalizers off, and with the last the namespace.
async fn finalize(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("UpdateOptions", call.query)?;
    let kind = kinds::by_resource("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
    let key = call.key();
    let value = named(call.decode_as(kind, body, options.fields).await?, &key)?;
    let change = |mut old: Value| {
        let finalizers = value["spec"]["finalizers"].clone();
        if let Some(spec) = old["spec"].as_object_mut() {
            match finalizers.as_array() {
                Some(list) if !list.is_empty() => spec.insert("finalizers".into(), finalizers),
                _ => spec.remove("finalizers"),
            };
        }
        old["metadata"]["resourceVersion"] = value["metadata"]["resourceVersion"].clone();
        Ok(old)
    };
    let object = call.api.registry.update(kind, &key, Part::AsGiven, call.writing(&options), &change).await?;
    call.object(StatusCode::OK, &object)
}

fn done() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}
