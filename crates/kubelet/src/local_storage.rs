//! The node's disk that a pod may take: for each emptyDir, for each container's writable layer and log, and for all of
//! it. Nothing holds a pod to that; one that takes more is evicted (upstream's `localStorageEviction`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::kubelet::Context;
use crate::pod;
use crate::resources::{bytes_of, ephemeral_storage_limit};
use crate::runtime::disk_bytes;
use crate::status::Record;

/// How often upstream's eviction manager looks.
pub const LOOK: Duration = Duration::from_secs(10);
/// From this priority on a pod is critical, and stays (`scheduling.SystemCriticalPriority`).
const CRITICAL: i32 = 2_000_000_000;

/// Whether anything of the pod's is limited, so that looking is worth it.
pub fn is_limited(spec: &PodSpec) -> bool {
    spec.priority.is_none_or(|priority| priority < CRITICAL)
        && (ephemeral_storage_limit(spec).is_some() || volumes(spec).any(|volume| size_limit(volume).is_some()))
}

/// Says what the pod takes too much of, in upstream's words.
pub async fn excess(
    context: &Context,
    pod: &Pod,
    places: &BTreeMap<String, PathBuf>,
    records: &[Record],
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut total = 0;
    for volume in volumes(spec).filter(|volume| is_empty_dir(volume)) {
        let Some(place) = places.get(&volume.name) else { continue };
        let used = usage(place).await;
        if let Some(limit) = size_limit(volume).filter(|limit| used > bytes_of(limit)) {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0));
        }
        if !in_memory(volume) {
            total += used;
        }
    }
    let pod_limit = ephemeral_storage_limit(spec)?;
    let logs = pod::log_directory(&context.config.pod_logs, pod);
    let mut of_containers = BTreeMap::<&str, i64>::new();
    for record in records {
        // A container that is removed meanwhile takes nothing.
        let layer = context.runtime.writable_bytes(&record.status.id).await.unwrap_or_default();
        *of_containers.entry(record.name()).or_default() += i64::try_from(layer).unwrap_or(i64::MAX);
    }
    for (name, used) in &mut of_containers {
        *used += usage(&logs.join(name)).await;
        total += *used;
    }
    if total > bytes_of(&pod_limit) {
        let limit = pod_limit.0;
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    spec.containers.iter().find_map(|container| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?;
        let used = of_containers.get(container.name.as_str())?;
        let is_over = bytes_of(limit) != 0 && *used > bytes_of(limit);
        let (name, limit) = (&container.name, &limit.0);
        is_over.then(|| format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "))
    })
}

async fn usage(directory: &Path) -> i64 {
    let directory = directory.to_owned();
    let counted = tokio::task::spawn_blocking(move || disk_bytes(&directory)).await;
    // What isn't there yet takes nothing.
    counted.ok().and_then(Result::ok).map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn volumes(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    spec.volumes.iter().flatten()
}

fn is_empty_dir(volume: &Volume) -> bool {
    volume.empty_dir.is_some()
}

fn in_memory(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref() == Some("Memory"))
}

fn size_limit(volume: &Volume) -> Option<&Quantity> {
    volume.empty_dir.as_ref()?.size_limit.as_ref().filter(|limit| bytes_of(limit) > 0)
}
