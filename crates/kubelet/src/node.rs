//! The node's object: made at start, its status kept true.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeSpec,
    NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::kubelet::Context;

/// Status is written at least this often, and looked at each time the shorter period is over.
const REPORT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Upstream's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// Below this much free memory the node says so (upstream's default `memory.available<100Mi`).
const LEAST_MEMORY_BYTES: i64 = 100 << 20;

/// What the machine has.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    pub pods: u32,
}

impl Capacity {
    /// `images` is a path on the disk that containers write to.
    pub fn of_this_machine(pods: u32, images: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let disk_bytes = nix::sys::statvfs::statvfs(images)
            .map_or(0, |stat| i64::try_from(stat.blocks() * stat.fragment_size()).unwrap_or(i64::MAX));
        Self { cpu_milli: cpus as i64 * 1000, memory_bytes: meminfo("MemTotal:"), disk_bytes, pods }
    }

    /// What pods may ask for: upstream leaves its hard eviction thresholds to the node.
    pub fn allocatable_memory_bytes(&self) -> i64 {
        (self.memory_bytes - LEAST_MEMORY_BYTES).max(0)
    }

    pub fn allocatable_disk_bytes(&self) -> i64 {
        self.disk_bytes - self.disk_bytes / 10
    }

    fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.quantities();
        all.insert("memory".into(), Quantity(format!("{}Ki", self.allocatable_memory_bytes() / 1024)));
        all.insert("ephemeral-storage".into(), Quantity(self.allocatable_disk_bytes().to_string()));
        all
    }

    fn quantities(&self) -> BTreeMap<String, Quantity> {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity((self.cpu_milli / 1000).to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.memory_bytes / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", self.disk_bytes / 1024))),
            ("hugepages-1Gi".to_owned(), Quantity("0".into())),
            ("hugepages-2Mi".to_owned(), Quantity("0".into())),
            ("pods".to_owned(), Quantity(self.pods.to_string())),
        ])
    }
}

/// Registers the node and keeps its status, for ever.
pub async fn run(context: Arc<Context>, port: u16) {
    let api: Api<Node> = Api::all(context.client.clone());
    let mut retry = FIRST_RETRY;
    while let Err(error) = register(&api, &context, port).await {
        tracing::warn!(%error, "node not registered, will retry");
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
    let mut reported = (Timestamp::now(), status(&context, port, None));
    loop {
        tokio::time::sleep(LOOK).await;
        let new = status(&context, port, Some(&reported.1));
        let due = Timestamp::now().duration_since(reported.0).unsigned_abs() >= REPORT;
        if !due && same(&new, &reported.1) {
            continue;
        }
        match api.patch_status(&context.config.node_name, &PatchParams::default(), &patch(&new)).await {
            Ok(_) => reported = (Timestamp::now(), new),
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                // Someone has deleted the node under us: it is made again, as upstream's kubelet does on restart.
                if let Err(error) = register(&api, &context, port).await {
                    tracing::warn!(%error, "node not registered again");
                }
            }
            Err(error) => tracing::warn!(%error, "node status not written, will retry"),
        }
    }
}

/// Makes the node or brings the one that is there up to date.
async fn register(api: &Api<Node>, context: &Context, port: u16) -> Result<(), kube::Error> {
    let name = &context.config.node_name;
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels(context)),
            annotations: Some(annotations(context)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: context.config.pod_cidr.clone(),
            pod_cidrs: context.config.pod_cidr.clone().map(|cidr| vec![cidr]),
            ..NodeSpec::default()
        }),
        status: Some(status(context, port, None)),
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        Err(error) => return Err(error),
    }
    let meta = json!({ "metadata": { "labels": labels(context), "annotations": annotations(context) } });
    api.patch(name, &PatchParams::default(), &Patch::Strategic(meta)).await?;
    let known = api.get(name).await?.status;
    api.patch_status(name, &PatchParams::default(), &patch(&status(context, port, known.as_ref()))).await?;
    Ok(())
}

fn patch(status: &NodeStatus) -> Patch<serde_json::Value> {
    let mut status = json!(status);
    // Addresses merge by type: those of another machine under this name have to go.
    if let Some(addresses) = status.get_mut("addresses").and_then(|addresses| addresses.as_array_mut()) {
        addresses.push(json!({ "$patch": "replace" }));
    }
    Patch::Strategic(json!({ "status": status }))
}

/// Whether nothing but heartbeats differs.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) == still(b)
}

fn labels(context: &Context) -> BTreeMap<String, String> {
    let mut labels = context.config.labels.clone();
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        labels.insert(format!("{prefix}/os"), "linux".into());
        labels.insert(format!("{prefix}/arch"), architecture().into());
    }
    labels.insert("kubernetes.io/hostname".into(), context.config.node_name.to_lowercase());
    labels
}

fn annotations(context: &Context) -> BTreeMap<String, String> {
    let mut annotations = context.config.annotations.clone();
    annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into());
    annotations
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(context: &Context, port: u16, before: Option<&NodeStatus>) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", context.config.node_ip.to_string()),
            address("Hostname", context.config.node_name.clone()),
        ]),
        allocatable: Some(context.capacity.allocatable()),
        capacity: Some(context.capacity.quantities()),
        conditions: Some(conditions(context, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        images: Some(images(context)),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        node_info: Some(system_info(context)),
        ..NodeStatus::default()
    }
}

fn conditions(context: &Context, before: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let memory_low = meminfo("MemAvailable:") < LEAST_MEMORY_BYTES;
    let disk_low = nix::sys::statvfs::statvfs(&context.runtime.image_dir())
        .is_ok_and(|stat| stat.blocks_available() < stat.blocks() / 10 && free_bytes(&stat) < 1 << 30);
    let all = [
        (
            "MemoryPressure",
            memory_low,
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            disk_low,
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            false,
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        (
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status",
            "KubeletNotReady",
            "container runtime is down",
        ),
    ];
    let now = Timestamp::now();
    all.into_iter()
        .map(|(kind, on, reason_on, message_on, reason_off, message_off)| {
            let status = if on { "True" } else { "False" };
            let known = before
                .and_then(|before| before.conditions.as_ref())
                .and_then(|known| known.iter().find(|known| known.type_ == kind && known.status == status));
            NodeCondition {
                type_: kind.into(),
                status: status.into(),
                reason: Some(if on { reason_on } else { reason_off }.into()),
                message: Some(if on { message_on } else { message_off }.into()),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: known.map_or(Some(Time(now)), |known| known.last_transition_time.clone()),
            }
        })
        .collect()
}

fn free_bytes(stat: &nix::sys::statvfs::Statvfs) -> u64 {
    stat.blocks_available() * stat.fragment_size()
}

fn images(context: &Context) -> Vec<ContainerImage> {
    let mut images = context.runtime.images();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images.truncate(MAX_IMAGES);
    images
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(image.digests.into_iter().chain(image.names).collect()),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        })
        .collect()
}

fn system_info(context: &Context) -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/etc/os-release");
    let os = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    let uuid = context.config.system_uuid.clone().unwrap_or_else(|| read("/sys/class/dmi/id/product_uuid"));
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: context.runtime.version(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: context.config.kubelet_version.clone(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: os.to_owned(),
        system_uuid: uuid,
        swap: None,
    }
}

/// A line of /proc/meminfo in bytes.
pub(crate) fn meminfo(name: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}
