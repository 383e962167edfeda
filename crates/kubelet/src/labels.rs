//! The labels by which the kubelet finds its sandboxes and containers again, named as CRI runtimes name them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::runtime::ContainerStatus;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Seconds from the pod's spec: an orphan is stopped with the grace that its pod asked for.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The image as the pod names it.
pub const IMAGE: &str = "io.kubernetes.container.image";

/// Labels of a pod's sandbox.
pub fn of_pod(pod: &Pod) -> BTreeMap<String, String> {
    let spec = pod.spec.as_ref();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    BTreeMap::from([
        (POD_NAME.to_owned(), pod.metadata.name.clone().unwrap_or_default()),
        (POD_NAMESPACE.to_owned(), pod.metadata.namespace.clone().unwrap_or_default()),
        (POD_UID.to_owned(), pod.metadata.uid.clone().unwrap_or_default()),
        (GRACE_PERIOD.to_owned(), grace.to_string()),
    ])
}

pub fn container_name(status: &ContainerStatus) -> &str {
    status.labels.get(CONTAINER_NAME).map_or("", String::as_str)
}

/// How often the container had been started before this one.
pub fn restart_count(status: &ContainerStatus) -> i32 {
    status.labels.get(RESTART_COUNT).and_then(|text| text.parse().ok()).unwrap_or(0)
}
