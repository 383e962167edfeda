//! InterPodAffinity: near pods that the pod wants to be near, and away from those that it, or they, want to be away from.

mod hints;
mod scoring;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::cache::{Others, Slot};
use crate::change::{Change, Kinds};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::{AffinityTerm, PodInfo};

pub struct InterPodAffinity;

/// How many pods, or what weight, each topology's domains have.
#[derive(Default)]
struct Counts(HashMap<String, HashMap<String, i64>>);

struct Neighbours<'a> {
    pod: &'a PodInfo,
    namespace_labels: Option<&'a BTreeMap<String, String>>,
    near: Vec<Cow<'a, AffinityTerm>>,
    far: Vec<Cow<'a, AffinityTerm>>,
    /// Pods that match all of `near`.
    wanted: Counts,
    /// Pods that match one of `far`.
    unwanted: Counts,
    /// Pods that don't want this one.
    unwelcoming: Counts,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if let Some(error) = cycle.pod.affinity.as_ref().and_then(|affinity| affinity.error.as_ref()) {
            return PreFilter::Reject(format!("parsing pod: {error}").into());
        }
        let neighbours = Neighbours::new(cycle);
        if neighbours.unwelcoming.is_empty() && neighbours.near.is_empty() && neighbours.far.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(neighbours))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        Ok(scoring::pre_score(cycle))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn events(&self) -> Kinds {
        Kinds::POD_ADD | Kinds::POD_LABEL | Kinds::POD_DELETE | Kinds::NODE_ADD | Kinds::NODE_LABEL
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        hints::helps(pod, change)
    }
}

/// A pod's term with the namespaces that it selects by their labels named, so that others' needn't be looked up.
fn unrolled<'a>(term: &'a AffinityTerm, others: &Others) -> Cow<'a, AffinityTerm> {
    match &term.namespace_selector {
        Some(selector) if !selector.is_empty() => {
            let mut unrolled = term.clone();
            let selected = others.namespaces.iter().filter(|(_, labels)| selector.matches(labels));
            unrolled.namespaces.extend(selected.map(|(name, _)| name.clone()));
            unrolled.namespace_selector = None;
            Cow::Owned(unrolled)
        }
        _ => Cow::Borrowed(term),
    }
}

fn matches_all<T: std::ops::Deref<Target = AffinityTerm>>(terms: &[T], pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, None))
}

impl<'a> Neighbours<'a> {
    fn new(cycle: Cycle<'a>) -> Self {
        let Cycle { pod, cache } = cycle;
        let unroll = |terms: &'a [AffinityTerm]| terms.iter().map(|term| unrolled(term, &cache.others)).collect();
        let mut neighbours = Self {
            pod,
            namespace_labels: cache.others.namespaces.get(&pod.key.namespace),
            near: unroll(pod.required_affinity()),
            far: unroll(pod.required_anti_affinity()),
            wanted: Counts::default(),
            unwanted: Counts::default(),
            unwelcoming: Counts::default(),
        };
        for info in cache.nodes_with_anti_affinity() {
            for other in &info.with_anti_affinity {
                neighbours.count_unwelcoming(other, info.node(), 1);
            }
        }
        if neighbours.near.is_empty() && neighbours.far.is_empty() {
            return neighbours;
        }
        for slot in cache.ordered() {
            let info = cache.node(*slot);
            for other in &info.pods {
                neighbours.count_wanted(other, info.node(), 1);
            }
        }
        neighbours
    }

    fn count_unwelcoming(&mut self, other: &PodInfo, node: &Node, by: i64) {
        for term in other.required_anti_affinity() {
            if term.matches(self.pod, self.namespace_labels) {
                self.unwelcoming.count(node, &term.topology_key, by);
            }
        }
    }

    fn count_wanted(&mut self, other: &PodInfo, node: &Node, by: i64) {
        if matches_all(&self.near, other) {
            for term in &self.near {
                self.wanted.count(node, &term.topology_key, by);
            }
        }
        for term in &self.far {
            if term.matches(other, None) {
                self.unwanted.count(node, &term.topology_key, by);
            }
        }
    }

    fn has_wanted(&self, node: &Node) -> bool {
        if !self.near.iter().all(|term| node.labels.contains_key(&term.topology_key)) {
            return false;
        }
        // The first of pods that want to be together has nobody to be near.
        let is_first = || self.wanted.is_empty() && matches_all(&self.near, self.pod);
        self.near.iter().all(|term| self.wanted.at(node, &term.topology_key) > 0) || is_first()
    }
}

impl Filter for Neighbours<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        let node = info.node();
        if !self.has_wanted(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if self.far.iter().any(|term| self.unwanted.at(node, &term.topology_key) > 0) {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.unwelcoming.0.keys().any(|key| self.unwelcoming.at(node, key) > 0) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn add(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count_unwelcoming(pod, node.node(), 1);
        self.count_wanted(pod, node.node(), 1);
    }

    fn remove(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count_unwelcoming(pod, node.node(), -1);
        self.count_wanted(pod, node.node(), -1);
    }
}

impl Counts {
    /// Nodes without the label are in no domain.
    fn count(&mut self, node: &Node, key: &str, by: i64) {
        let Some(value) = node.labels.get(key) else { return };
        if !self.0.contains_key(key) {
            self.0.insert(key.into(), HashMap::new());
        }
        let Some(domains) = self.0.get_mut(key) else { return };
        match domains.get_mut(value) {
            Some(count) => *count += by,
            None => drop(domains.insert(value.clone(), by)),
        }
        if domains.get(value) == Some(&0) {
            domains.remove(value);
            if domains.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn at(&self, node: &Node, key: &str) -> i64 {
        let domain = || self.0.get(key)?.get(node.labels.get(key)?);
        domain().copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
