//! InterPodAffinity: near pods that the pod wants to be near, and away from those that it, or they, want to be away from.

mod hints;
mod scoring;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tug_api::Selector;

use crate::cache::{Cache, Slot};
use crate::change::{Change, Kinds};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::pod::{AffinityTerm, PodInfo};
use crate::tally::Tally;
use crate::terms::Stance;
use crate::topology::PerDomain;

pub struct InterPodAffinity;

struct Neighbours<'a> {
    pod: &'a PodInfo,
    cache: &'a Cache,
    namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// A node will do only near a pod that all of these select.
    near: Unrolled<'a>,
    /// Such pods, by the label of each term.
    wanted: Vec<PerDomain>,
    /// No node near a pod that one of these selects, with how many there are.
    far: Vec<(Unrolled<'a>, PerDomain)>,
    /// Pods that don't want this one near, by the label that says what near is.
    unwelcoming: BTreeMap<String, PerDomain>,
}

/// Terms of a pod that a pod must all match, with all namespaces named.
struct Unrolled<'a> {
    terms: Vec<&'a AffinityTerm>,
    namespaces: BTreeSet<String>,
    /// `None` selects nothing.
    selector: Option<Selector>,
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
        if neighbours.unwelcoming.is_empty() && neighbours.wanted.is_empty() && neighbours.far.is_empty() {
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

/// A term with the namespaces named that it selects by their labels.
fn unrolled<'a>(term: &'a AffinityTerm, cache: &Cache) -> Unrolled<'a> {
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().cloned().collect();
    if let Some(selector) = &term.namespace_selector {
        let selected = cache.others.namespaces.iter().filter(|(_, labels)| selector.matches(labels));
        namespaces.extend(selected.map(|(name, _)| name.clone()));
    }
    Unrolled { terms: vec![term], namespaces, selector: term.selector.clone() }
}

impl<'a> Unrolled<'a> {
    fn all_of(terms: &'a [AffinityTerm], cache: &Cache) -> Self {
        let mut each = terms.iter().map(|term| unrolled(term, cache));
        let nothing = || Self { terms: Vec::new(), namespaces: BTreeSet::new(), selector: None };
        let first = each.next().unwrap_or_else(nothing);
        each.fold(first, |mut all, term| {
            all.terms.extend(term.terms);
            all.namespaces.retain(|namespace| term.namespaces.contains(namespace));
            all.selector = all.selector.zip(term.selector).map(|(one, another)| one.and(&another));
            all
        })
    }

    fn matches(&self, pod: &PodInfo) -> bool {
        self.namespaces.contains(&pod.key.namespace)
            && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }

    /// The pods that match, namespace by namespace.
    fn tallies(&self, cache: &Cache) -> impl Iterator<Item = Arc<Tally>> {
        let selector = self.selector.as_ref();
        self.namespaces.iter().filter_map(move |namespace| Some(cache.tally(namespace, selector?)))
    }
}

impl<'a> Neighbours<'a> {
    fn new(cycle: Cycle<'a>) -> Self {
        let Cycle { pod, cache } = cycle;
        let near = Unrolled::all_of(pod.required_affinity(), cache);
        let mut wanted: Vec<_> = near.terms.iter().map(|term| cache.per_domain(&term.topology_key)).collect();
        if !wanted.is_empty() {
            for (slot, pods) in near.tallies(cache).flat_map(|tally| tally.slots().collect::<Vec<_>>()) {
                wanted.iter_mut().for_each(|domains| domains.add(slot, pods));
            }
        }
        let far = pod.required_anti_affinity().iter().map(|term| {
            let mut unwanted = cache.per_domain(&term.topology_key);
            let term = unrolled(term, cache);
            for tally in term.tallies(cache) {
                tally.slots().for_each(|(slot, pods)| unwanted.add(slot, pods));
            }
            (term, unwanted)
        });
        let far = far.collect();
        let namespace_labels = cache.others.namespaces.get(&pod.key.namespace);
        let mut unwelcoming: BTreeMap<String, PerDomain> = BTreeMap::new();
        for (_, term, holders) in cache.terms.iter().filter(|(stance, ..)| *stance == Stance::Avoid) {
            if !term.matches(pod, namespace_labels) {
                continue;
            }
            let key = &term.topology_key;
            let domains = unwelcoming.entry(key.clone()).or_insert_with(|| cache.per_domain(key));
            holders.iter().for_each(|(slot, pods)| domains.add(*slot, *pods));
        }
        Self { pod, cache, namespace_labels, near, wanted, far, unwelcoming }
    }

    fn has_wanted(&self, node: &NodeInfo) -> bool {
        if self.wanted.iter().any(|domains| domains.at(node.slot).is_none()) {
            return false;
        }
        // The first of pods that want to be together has nobody to be near.
        let is_first = || self.near.matches(self.pod) && self.wanted.iter().all(PerDomain::is_zero);
        self.wanted.iter().all(|domains| domains.at(node.slot).is_some_and(|pods| pods > 0)) || is_first()
    }

    fn change(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        for term in other.required_anti_affinity() {
            if term.matches(self.pod, self.namespace_labels) {
                let key = &term.topology_key;
                let domains = self.unwelcoming.entry(key.clone()).or_insert_with(|| self.cache.per_domain(key));
                domains.add(node.slot, by);
            }
        }
        if self.near.matches(other) {
            self.wanted.iter_mut().for_each(|domains| domains.add(node.slot, by));
        }
        for (term, unwanted) in &mut self.far {
            if term.matches(other) {
                unwanted.add(node.slot, by);
            }
        }
    }
}

impl Filter for Neighbours<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.has_wanted(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        let near = |domains: &PerDomain| domains.at(node.slot).is_some_and(|pods| pods > 0);
        if self.far.iter().any(|(_, unwanted)| near(unwanted)) {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.unwelcoming.values().any(near) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn add(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.change(pod, node, 1);
    }

    fn remove(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.change(pod, node, -1);
    }
}
