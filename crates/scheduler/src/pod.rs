//! A pod as the scheduler sees it: everything that decides about it or about others, parsed once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodAffinityTerm, PodCondition, PodSpec, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use tug_api::{ObjectKey, Selector};

use crate::node_selector::{PreferredNodes, RequiredNodes};
use crate::resources::Requests;

/// What a pod is to others, wherever it is, and, as long as it has no node, what it wishes.
#[derive(Clone, Debug, Default)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub uid: String,
    pub node_name: Option<String>,
    pub nominated_node: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub priority: i32,
    pub requests: Requests,
    pub ports: Vec<HostPort>,
    pub affinity: Option<Box<Affinity>>,
    pub terminating: bool,
    /// It is over: its node's resources are free again.
    pub finished: bool,
    pub started: Option<Timestamp>,
    /// It ends since the scheduler made room for another.
    pub preempted: bool,
    pub wishes: Option<Box<Wishes>>,
}

/// What matters until the pod has a node.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub scheduler_name: String,
    pub generation: Option<i64>,
    pub gates: Vec<String>,
    pub tolerations: Vec<Toleration>,
    pub required_nodes: RequiredNodes,
    pub preferred_nodes: PreferredNodes,
    pub spread: Vec<TopologySpreadConstraint>,
    /// Of containers, init containers and image volumes, as nodes name them.
    pub images: Vec<String>,
    pub containers: usize,
    pub volumes: Vec<Claim>,
    /// API version, kind and name of the controller.
    pub controller: Option<(String, String, String)>,
    pub preempts: bool,
    /// `PodScheduled`, as the API has it.
    pub condition: Option<PodCondition>,
}

/// A claim that a volume of the pod stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub name: String,
    /// Made for this pod, by a controller.
    pub ephemeral: bool,
}

/// A port of the node itself. No address stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub address: Option<String>,
    pub protocol: String,
    pub port: i32,
}

/// Which pods a pod wants near, and which not.
#[derive(Clone, Debug, Default)]
pub struct Affinity {
    pub required: Vec<AffinityTerm>,
    pub required_anti: Vec<AffinityTerm>,
    /// With their weights; negative for those that it would rather keep away from.
    pub preferred: Vec<(i64, AffinityTerm)>,
    /// Why the terms can't be read, in upstream's words.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    pub topology_key: String,
    pub namespaces: Vec<String>,
    /// Namespaces whose labels it matches count too; `None` for none.
    pub namespace_selector: Option<Selector>,
    /// `None` matches no pod.
    pub selector: Option<Selector>,
}

impl PodInfo {
    pub fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let key =
            ObjectKey::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let status = pod.status.as_ref();
        let node_name = spec.node_name.clone().filter(|name| !name.is_empty());
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let disruption = condition(pod, "DisruptionTarget");
        Self {
            affinity: Affinity::of(spec, &key.namespace),
            wishes: node_name.is_none().then(|| Box::new(Wishes::of(pod, spec))),
            node_name,
            nominated_node: status.and_then(|s| s.nominated_node_name.clone()).filter(|name| !name.is_empty()),
            key,
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests: Requests::of(pod),
            ports: host_ports(spec),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, "Succeeded" | "Failed"),
            started: status.and_then(|status| Some(status.start_time.as_ref()?.0)),
            preempted: disruption
                .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler")),
        }
    }

    /// What it wishes; plugins see pods that wait for a node.
    pub fn wishes(&self) -> &Wishes {
        self.wishes.as_deref().expect("a pod without a node has wishes")
    }

    pub fn required_affinity(&self) -> &[AffinityTerm] {
        self.affinity.as_deref().map_or(&[], |affinity| &affinity.required)
    }

    pub fn required_anti_affinity(&self) -> &[AffinityTerm] {
        self.affinity.as_deref().map_or(&[], |affinity| &affinity.required_anti)
    }
}

impl Wishes {
    fn of(pod: &Pod, spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let image_volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.clone());
        let images = containers().map(|container| container.image.clone().unwrap_or_default()).chain(image_volumes);
        let owners = pod.metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
        Self {
            scheduler_name: spec.scheduler_name.clone().unwrap_or_default(),
            generation: pod.metadata.generation,
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            required_nodes: RequiredNodes::of(spec.node_selector.as_ref(), required),
            preferred_nodes: PreferredNodes::of(preferred.map_or(&[], Vec::as_slice)),
            spread: spec.topology_spread_constraints.clone().unwrap_or_default(),
            images: images.map(|image| normalized_image(&image)).collect(),
            containers: containers().count(),
            volumes: claims(&pod.metadata.name.clone().unwrap_or_default(), spec),
            controller: controller.map(|owner| (owner.api_version.clone(), owner.kind.clone(), owner.name.clone())),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            condition: condition(pod, "PodScheduled").cloned(),
        }
    }
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn claims(pod: &str, spec: &PodSpec) -> Vec<Claim> {
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Claim { name: claim.claim_name.clone(), ephemeral: false });
        }
        volume.ephemeral.as_ref()?;
        Some(Claim { name: format!("{pod}-{}", volume.name), ephemeral: true })
    };
    spec.volumes.iter().flatten().filter_map(claim).collect()
}

/// Those of containers and sidecars: upstream's `GetHostPorts`.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(is_sidecar));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let host_port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            address: port.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "0.0.0.0"),
            protocol: port.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".into()),
            port: number,
        })
    };
    ports.filter_map(host_port).collect()
}

/// An image without a tag is its `latest`.
fn normalized_image(name: &str) -> String {
    if name.rfind(':') <= name.rfind('/') { format!("{name}:latest") } else { name.into() }
}

impl HostPort {
    /// Whether two pods on one node can't have them both.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same_address = match (&self.address, &other.address) {
            (Some(one), Some(another)) => one == another,
            _ => true,
        };
        same_address && self.port == other.port && self.protocol == other.protocol
    }
}

impl Affinity {
    fn of(spec: &PodSpec, namespace: &str) -> Option<Box<Self>> {
        let affinity = spec.affinity.as_ref()?;
        let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let near_required = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        let far_required = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        let near_preferred = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        let far_preferred = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        let mut parsed = Self::default();
        let mut errors = Vec::new();
        let mut required = |terms: Option<&[PodAffinityTerm]>, what: &str| {
            let terms = terms.unwrap_or_default().iter();
            let terms: Result<_, _> = terms.map(|term| AffinityTerm::of(term, namespace)).collect();
            terms.unwrap_or_else(|error| {
                errors.push(format!("{what}: {error}"));
                Vec::new()
            })
        };
        parsed.required = required(near_required, "requiredAffinityTerms");
        parsed.required_anti = required(far_required, "requiredAntiAffinityTerms");
        let mut preferred = |terms: Option<&[WeightedPodAffinityTerm]>, sign: i64, what: &str| {
            for term in terms.unwrap_or_default() {
                match AffinityTerm::of(&term.pod_affinity_term, namespace) {
                    Ok(read) => parsed.preferred.push((sign * i64::from(term.weight), read)),
                    Err(error) => errors.push(format!("{what}: {error}")),
                }
            }
        };
        preferred(near_preferred, 1, "preferredAffinityTerms");
        preferred(far_preferred, -1, "preferredAntiAffinityTerms");
        parsed.error = match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(format!("[{}]", errors.join(", "))),
        };
        let nothing = parsed.required.is_empty() && parsed.required_anti.is_empty() && parsed.preferred.is_empty();
        (!nothing || parsed.error.is_some()).then(|| Box::new(parsed))
    }
}

impl AffinityTerm {
    fn of(term: &PodAffinityTerm, namespace: &str) -> Result<Self, String> {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.into());
        }
        Ok(Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref())?,
            selector: selector(term.label_selector.as_ref())?,
        })
    }

    /// Whether a pod of these labels, in a namespace of those, is one that the term speaks of.
    pub fn matches(&self, pod: &PodInfo, namespace_labels: Option<&BTreeMap<String, String>>) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
            && (self.namespaces.contains(&pod.key.namespace) || self.selects_namespace(namespace_labels))
    }

    fn selects_namespace(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let Some(selector) = &self.namespace_selector else { return false };
        match labels {
            Some(labels) => selector.matches(labels),
            None => selector.matches(&BTreeMap::new()),
        }
    }
}

/// An absent selector matches nothing.
pub fn selector(selector: Option<&LabelSelector>) -> Result<Option<Selector>, String> {
    selector.map(Selector::from_label_selector).transpose().map_err(|error| error.0)
}
