//! `ServiceAccount`: each pod runs as an account that exists, with its token where clients look for it.

use std::time::Duration;

use serde_json::{Value, json};
use tug_api::ObjectKey;
use tug_api::kinds::core;

use super::{forbidden, pod_tolerations::list};
use crate::cache::Cache;
use crate::objects::Objects;
use crate::rbac::Attributes;
use crate::status::Status;
use crate::tokens::POD_LIFE;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A new namespace's `default` account is made by a controller a moment later; a pod made in between waits for it this
/// long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// To be awaited before a pod is admitted: gives the controller of a namespace made just now time to make its `default`
/// account, as upstream does. Returns at once for anything but a new pod, and when the account or the namespace isn't
/// there to wait for.
pub async fn wait_for_account(cache: &Cache, request: &Attributes<'_>, object: &Value) {
    let is_pod = request.group.is_empty() && request.resource == "pods" && request.subresource.is_empty();
    let named = object["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    if !is_pod || request.verb != "create" || named.is_some_and(|name| name != "default") {
        return;
    }
    let account = ObjectKey::new(request.namespace, "default");
    let namespace = ObjectKey::new("", request.namespace);
    let nothing_to_wait_for =
        || cache.get(&core::SERVICE_ACCOUNT, &account).is_some() || cache.get(&core::NAMESPACE, &namespace).is_none();
    cache.until(PATIENCE, nothing_to_wait_for).await;
}

pub(super) fn admit(objects: &dyn Objects, request: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if pod["metadata"]["annotations"][MIRROR].is_string() {
        if pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
            return Err(forbidden(request, Some(pod), "a mirror pod may not reference service accounts"));
        }
        return Ok(());
    }
    let named = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    let name = named.unwrap_or("default").to_owned();
    let key = ObjectKey::new(request.namespace, name.as_str());
    let Some(account) = objects.get(&core::SERVICE_ACCOUNT, &key) else {
        let why =
            format!("error looking up service account {}/{name}: serviceaccount {name:?} not found", request.namespace);
        return Err(forbidden(request, Some(pod), &why));
    };
    let account = account.value().map_err(Status::internal)?;
    let Some(spec) = pod["spec"].as_object_mut() else { return Ok(()) };
    spec.insert("serviceAccountName".into(), name.as_str().into());
    // The old name of the same field, which upstream keeps in step.
    spec.insert("serviceAccount".into(), name.into());

    let wants = |value: Option<&Value>| value.and_then(Value::as_bool);
    let automount = wants(spec.get("automountServiceAccountToken"))
        .or_else(|| wants(account.get("automountServiceAccountToken")))
        .unwrap_or(true);
    if automount {
        mount_token(&mut pod["spec"]);
    }
    let pull_secrets = &account["imagePullSecrets"];
    let has_own = pod["spec"]["imagePullSecrets"].as_array().is_some_and(|secrets| !secrets.is_empty());
    if !has_own && pull_secrets.as_array().is_some_and(|secrets| !secrets.is_empty()) {
        pod["spec"]["imagePullSecrets"] = pull_secrets.clone();
    }
    Ok(())
}

/// Mounts the token into every container that has nothing mounted at its place.
fn mount_token(spec: &mut Value) {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let present = volumes.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with(VOLUME_PREFIX));
    let is_new = present.is_none();
    let name = present.map_or_else(|| tug_api::meta::generate_name(VOLUME_PREFIX, rand::random()), str::to_owned);
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = list(container, "volumeMounts");
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            used = true;
        }
    }
    if used && is_new {
        list(spec, "volumes").push(json!({
            "name": name,
            "projected": {
                "defaultMode": 0o644,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": POD_LIFE, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
            },
        }));
    }
}
