//! What controllers that end pods say in the pods' status, before they delete them.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use crate::error::{Result, Step, unless_gone};

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// `DisruptionTarget`: why somebody else than its owner ends the pod. `None` if that is said already.
pub(crate) fn disruption(pod: &Pod, reason: &str, message: &str) -> Option<Value> {
    const TYPE: &str = "DisruptionTarget";
    let held = condition(pod, TYPE);
    if held.is_some_and(|held| held.status == "True" && held.reason.as_deref() == Some(reason)) {
        return None;
    }
    let is_change = held.is_none_or(|held| held.status != "True");
    let since = held.and_then(|held| held.last_transition_time.clone()).filter(|_| !is_change);
    Some(json!({
        "type": TYPE,
        "status": "True",
        "reason": reason,
        "message": message,
        "observedGeneration": pod.metadata.generation,
        "lastTransitionTime": since.unwrap_or_else(|| Time(Timestamp::now())),
    }))
}

/// A strategic merge of `status`, on condition that it is still the same pod. True if it was still there.
pub(crate) async fn patch(client: &kube::Client, pod: &Pod, status: Value) -> Result<bool> {
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }));
    let patched = api(client, pod).patch_status(name(pod), &PatchParams::default(), &patch).await;
    Ok(unless_gone(patched).step("updating a pod's status")?.is_some())
}

/// With the pod's own grace when `grace` is `None`.
pub(crate) async fn delete(client: &kube::Client, pod: &Pod, grace: Option<u32>) -> Result<()> {
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let delete =
        DeleteParams { grace_period_seconds: grace, preconditions: Some(preconditions), ..DeleteParams::default() };
    unless_gone(api(client, pod).delete(name(pod), &delete).await).step("deleting a pod")?;
    Ok(())
}

fn api(client: &kube::Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}
