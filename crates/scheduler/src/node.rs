//! A node as the scheduler sees it: what it offers, and the pods that it has or is about to get.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, Taint};

use crate::cache::Slot;
use crate::pod::{HostPort, PodInfo};
use crate::resources::{Resources, Scored};

/// The parts of a Node object that decide about pods.
#[derive(Debug, Default, PartialEq)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    /// Bytes by each of an image's names.
    pub images: BTreeMap<String, i64>,
}

/// A node and its pods. Kept up to date as pods come and go, never computed anew.
#[derive(Clone)]
pub struct NodeInfo {
    pub name: String,
    pub slot: Slot,
    /// `None` for a node that pods name and that isn't there, or isn't there any more.
    pub node: Option<Arc<Node>>,
    pub requested: Resources,
    pub scored: Scored,
    pub pods: Vec<Arc<PodInfo>>,
    pub ports: Vec<HostPort>,
}

impl Node {
    pub fn of(node: &core::Node) -> Self {
        let metadata = &node.metadata;
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|list| tug_api::Quantity::parse(&list.get("pods")?.0).ok());
        let mut images = BTreeMap::new();
        for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: allocatable.map(Resources::of_list).unwrap_or_default(),
            allowed_pods: pods.map_or(0, |pods| pods.value()),
            images,
        }
    }

    /// Nodes of one zone share it. Empty for a node that is in none.
    pub fn zone(&self) -> (&str, &str) {
        let label = |name| self.labels.get(name).map(String::as_str).unwrap_or_default();
        (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
    }
}

impl NodeInfo {
    /// A node of which no more than its name is known.
    pub fn new(name: &str, slot: Slot) -> Self {
        Self {
            name: name.into(),
            slot,
            node: None,
            requested: Resources::default(),
            scored: Scored::default(),
            pods: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// The node itself; only those that are there are shown to plugins.
    pub fn node(&self) -> &Node {
        self.node.as_deref().expect("plugins see nodes that are there")
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.resources);
        self.scored.add(pod.requests.scored);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes away what `pod`, which was added, brought.
    pub fn remove(&mut self, pod: &Arc<PodInfo>) {
        let Some(at) = self.pods.iter().position(|held| Arc::ptr_eq(held, pod)) else { return };
        self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests.resources);
        self.scored.subtract(pod.requests.scored);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}
