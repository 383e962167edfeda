//! Short ways to what is read from a pod all over the kubelet.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, ObjectReference, Pod, PodSpec};

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("")
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("")
}

/// `name_namespace(uid)`, as upstream's messages name a pod.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Containers that were added to a running pod to look into it, as containers like any other, each with the name of the
/// container whose processes it sees.
pub fn ephemeral_containers(spec: &PodSpec) -> Vec<(Container, Option<String>)> {
    let all = spec.ephemeral_containers.iter().flatten();
    all.filter_map(|added| {
        // Upstream's type is the container's with one field more.
        let container = serde_json::to_value(added).and_then(serde_json::from_value).ok()?;
        Some((container, added.target_container_name.clone().filter(|name| !name.is_empty())))
    })
    .collect()
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Upstream's `ContainerShouldRestart`: the first rule that matches, else the container's policy, else the pod's.
pub fn restarts(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    let matches = |rule: &ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    };
    if container.restart_policy.is_some()
        && let Some(rule) = container.restart_policy_rules.iter().flatten().find(|rule| matches(rule))
        && rule.action == "Restart"
    {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or(restart_policy(spec)) {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    }
}

/// Whether a container that is killed for its health comes back: upstream asks no rules here, for it has no exit code yet.
pub fn restarts_on_failure(spec: &PodSpec, container: &Container) -> bool {
    container.restart_policy.as_deref().unwrap_or(restart_policy(spec)) != "Never"
}

pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// It has come to its end and runs nothing more.
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What events about the pod refer to.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// What events about one container refer to.
pub fn container_reference(pod: &Pod, container: &str) -> ObjectReference {
    let spec = pod.spec.as_ref();
    let init = spec.is_some_and(|spec| init_containers(spec).iter().any(|init| init.name == container));
    let added = spec.is_some_and(|spec| spec.ephemeral_containers.iter().flatten().any(|c| c.name == container));
    let field = match (init, added) {
        (true, _) => "spec.initContainers",
        (_, true) => "spec.ephemeralContainers",
        _ => "spec.containers",
    };
    ObjectReference { field_path: Some(format!("{field}{{{container}}}")), ..reference(pod) }
}

/// Where the pod's files are: `<data>/pods/<uid>`.
pub fn directory(data_dir: &Path, uid: &str) -> PathBuf {
    data_dir.join("pods").join(uid)
}

/// `<pod_logs>/<namespace>_<name>_<uid>`.
pub fn log_directory(pod_logs: &Path, pod: &Pod) -> PathBuf {
    pod_logs.join(format!("{}_{}_{}", namespace(pod), name(pod), uid(pod)))
}
