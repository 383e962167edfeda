//! The cluster as the scheduler knows it: nodes with their pods, pods that it has placed and the API doesn't show yet,
//! and what of other objects decides about pods. Kept by changes; scheduling a pod reads it without a copy.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tug_api::Selector;

use crate::disruption::Budgets;
use crate::node::{Node, NodeInfo};
use crate::pod::PodInfo;
use crate::storage::Storage;
use crate::tally::{Tallies, Tally};
use crate::terms::Terms;
use crate::topology::{PerDomain, Topology};

/// A node's place in [`Cache`]. Stays the same as long as the node or a pod on it is known.
pub type Slot = usize;

/// How selectors of Services and workloads are found: by namespace, then name.
pub type Selectors = HashMap<String, BTreeMap<String, Selector>>;

#[derive(Default)]
pub struct Cache {
    slots: Vec<NodeInfo>,
    free: Vec<Slot>,
    by_name: HashMap<String, Slot>,
    /// Nodes that are there, in the order in which they are tried: zone by turns.
    order: Vec<Slot>,
    order_is_old: bool,
    pods: HashMap<String, Placed>,
    /// What those pods say about others.
    pub terms: Terms,
    /// By label. Made when first asked for, forgotten when nodes' labels change.
    topologies: RefCell<HashMap<String, Arc<Topology>>>,
    tallies: RefCell<Tallies>,
    images: HashMap<String, Image>,
    /// Pods for which room was made on a node, by its name.
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
    pub others: Others,
}

/// Objects of other kinds, as far as they decide.
#[derive(Default)]
pub struct Others {
    pub namespaces: HashMap<String, BTreeMap<String, String>>,
    pub services: Selectors,
    /// By kind, as an owner reference names it.
    pub workloads: HashMap<&'static str, Selectors>,
    pub budgets: Budgets,
    pub storage: Storage,
}

/// A pod that has a node.
struct Placed {
    pod: Arc<PodInfo>,
    slot: Slot,
    /// Not yet seen in the API.
    assumed: bool,
}

/// An image and how many nodes have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Image {
    pub bytes: i64,
    pub nodes: usize,
}

impl Cache {
    /// The nodes that are there, in the order in which they are tried.
    pub fn nodes(&mut self) -> &[Slot] {
        if std::mem::take(&mut self.order_is_old) {
            self.order = self.zone_by_zone();
        }
        &self.order
    }

    /// As [`Cache::nodes`], which was called since the last change.
    pub fn ordered(&self) -> &[Slot] {
        debug_assert!(!self.order_is_old);
        &self.order
    }

    pub fn node(&self, slot: Slot) -> &NodeInfo {
        &self.slots[slot]
    }

    /// The node of this name, if it is there.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied().filter(|slot| self.slots[*slot].node.is_some())
    }

    /// The domains that the label divides the nodes into.
    pub fn topology(&self, label: &str) -> Arc<Topology> {
        if let Some(topology) = self.topologies.borrow().get(label) {
            return topology.clone();
        }
        let there = self.slots.iter().filter_map(|info| Some((info.slot, info.node.as_ref()?)));
        let values = there.filter_map(|(slot, node)| Some((slot, node.labels.get(label)?.as_str())));
        let topology = Arc::new(Topology::new(self.slots.len(), values));
        self.topologies.borrow_mut().insert(label.into(), topology.clone());
        topology
    }

    /// Zero for each of the label's domains.
    pub fn per_domain(&self, label: &str) -> PerDomain {
        PerDomain::new(self.topology(label))
    }

    /// The pods of a namespace that the selector selects, by node.
    pub fn tally(&self, namespace: &str, selector: &Selector) -> Arc<Tally> {
        let pods = self.pods.values().map(|placed| (&*placed.pod, placed.slot));
        self.tallies.borrow_mut().get(namespace, selector, pods)
    }

    pub fn image(&self, name: &str) -> Option<Image> {
        self.images.get(name).copied()
    }

    /// Puts the node as it is now; returns what it was.
    pub fn put_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let slot = self.slot(&node.name);
        let old = self.slots[slot].node.replace(node.clone());
        if old.as_ref().is_none_or(|old| old.labels != node.labels) {
            self.order_is_old = true;
            self.topologies.get_mut().clear();
        }
        if old.as_ref().is_none_or(|old| old.images != node.images) {
            if let Some(old) = &old {
                self.forget_images(old);
            }
            for (name, bytes) in &node.images {
                self.images.entry(name.clone()).or_insert(Image { bytes: *bytes, nodes: 0 }).nodes += 1;
            }
        }
        old
    }

    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let slot = *self.by_name.get(name)?;
        let old = self.slots[slot].node.take()?;
        self.order_is_old = true;
        self.topologies.get_mut().clear();
        self.forget_images(&old);
        self.release(slot);
        Some(old)
    }

    /// Counts the pod on a node before the API shows it there.
    pub fn assume(&mut self, pod: Arc<PodInfo>, slot: Slot) {
        self.place(pod, slot, true);
    }

    /// Takes back what was assumed. False if it wasn't, or the API has confirmed it.
    pub fn forget(&mut self, uid: &str) -> bool {
        let assumed = self.pods.get(uid).is_some_and(|placed| placed.assumed);
        assumed && self.remove_pod(uid).is_some()
    }

    /// Counts a pod that has a node; returns what was counted for it.
    pub fn put_pod(&mut self, pod: Arc<PodInfo>) -> Option<Arc<PodInfo>> {
        let name = pod.node_name.clone().unwrap_or_default();
        let old = self.remove_pod(&pod.uid);
        let slot = self.slot(&name);
        self.place(pod, slot, false);
        old
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let Placed { pod, slot, .. } = self.pods.remove(uid)?;
        self.slots[slot].remove(&pod);
        self.count(&pod, slot, -1);
        self.release(slot);
        Some(pod)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// The pods for which room was made on the node of this name, which aren't there yet.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    /// Room is made for the pod on `node`.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.withdraw(&pod.uid);
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    /// No room is kept for the pod any more; returns it if there was some.
    pub fn withdraw(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let mut withdrawn = None;
        // There are few such pods at any time.
        self.nominated.retain(|_, pods| {
            if let Some(at) = pods.iter().position(|pod| pod.uid == uid) {
                withdrawn = Some(pods.swap_remove(at));
            }
            !pods.is_empty()
        });
        withdrawn
    }

    fn place(&mut self, pod: Arc<PodInfo>, slot: Slot, assumed: bool) {
        self.slots[slot].add(pod.clone());
        self.count(&pod, slot, 1);
        self.pods.insert(pod.uid.clone(), Placed { pod, slot, assumed });
    }

    fn count(&mut self, pod: &PodInfo, slot: Slot, by: i64) {
        self.tallies.get_mut().change(pod, slot, by);
        if let Some(affinity) = &pod.affinity {
            self.terms.change(affinity, slot, by);
        }
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = NodeInfo::new(name, slot);
                slot
            }
            None => {
                let slot = self.slots.len();
                self.slots.push(NodeInfo::new(name, slot));
                slot
            }
        };
        self.by_name.insert(name.into(), slot);
        slot
    }

    /// Lets the place of a node go that isn't there and has no pods.
    fn release(&mut self, slot: Slot) {
        let info = &self.slots[slot];
        if info.node.is_none() && info.pods.is_empty() {
            self.by_name.remove(&info.name);
            self.free.push(slot);
        }
    }

    fn forget_images(&mut self, node: &Node) {
        for name in node.images.keys() {
            let Some(image) = self.images.get_mut(name) else { continue };
            image.nodes -= 1;
            if image.nodes == 0 {
                self.images.remove(name);
            }
        }
    }

    /// One node of each zone, then the next of each, so that the first nodes tried are spread over zones.
    fn zone_by_zone(&self) -> Vec<Slot> {
        let mut zones: BTreeMap<(&str, &str), Vec<Slot>> = BTreeMap::new();
        let there = self.slots.iter().enumerate().filter_map(|(slot, info)| Some((slot, info.node.as_ref()?)));
        for (slot, node) in there {
            zones.entry(node.zone()).or_default().push(slot);
        }
        let deepest = zones.values().map(Vec::len).max().unwrap_or(0);
        (0..deepest).flat_map(|turn| zones.values().filter_map(move |nodes| nodes.get(turn)).copied()).collect()
    }
}

#[cfg(test)]
mod tests;
