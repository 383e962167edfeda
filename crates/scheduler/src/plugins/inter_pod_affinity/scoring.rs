//! Preferences: the pod's for and against others, and theirs for and against it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Counts, unrolled};
use crate::framework::{Cycle, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::{AffinityTerm, PodInfo};

/// What a pod that must be near this one counts: upstream's `hardPodAffinityWeight`.
const REQUIRED_WEIGHT: i64 = 1;

struct Preferences(Counts);

pub fn pre_score<'a>(cycle: Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
    let Cycle { pod, cache } = cycle;
    let own = pod.affinity.as_deref().map_or(&[][..], |affinity| &affinity.preferred);
    let own: Vec<_> = own.iter().map(|(weight, term)| (*weight, unrolled(term, &cache.others))).collect();
    let labels = cache.others.namespaces.get(&pod.key.namespace);
    let mut counts = Counts::default();
    if own.is_empty() {
        // Only pods with preferences of their own have any say.
        for info in cache.nodes_with_affinity() {
            for other in &info.with_affinity {
                count_theirs(&mut counts, other, info, pod, labels);
            }
        }
    } else {
        for slot in cache.ordered() {
            let info = cache.node(*slot);
            for other in &info.pods {
                count_own(&mut counts, &own, other, info);
                count_theirs(&mut counts, other, info, pod, labels);
            }
        }
    }
    if counts.is_empty() { None } else { Some(Box::new(Preferences(counts))) }
}

fn count_own(counts: &mut Counts, own: &[(i64, Cow<'_, AffinityTerm>)], other: &PodInfo, info: &NodeInfo) {
    for (weight, term) in own {
        if term.matches(other, None) {
            counts.count(info.node(), &term.topology_key, *weight);
        }
    }
}

fn count_theirs(
    counts: &mut Counts,
    other: &PodInfo,
    info: &NodeInfo,
    pod: &PodInfo,
    labels: Option<&BTreeMap<String, String>>,
) {
    let Some(affinity) = &other.affinity else { return };
    let required = affinity.required.iter().map(|term| (REQUIRED_WEIGHT, term));
    let preferred = affinity.preferred.iter().map(|(weight, term)| (*weight, term));
    for (weight, term) in required.chain(preferred) {
        if term.matches(pod, labels) {
            counts.count(info.node(), &term.topology_key, weight);
        }
    }
}

impl Score for Preferences {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.0.keys().map(|key| self.0.at(node.node(), key)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            let part = if most > least { (*score - least) as f64 / (most - least) as f64 } else { 0.0 };
            *score = (MAX_SCORE as f64 * part) as i64;
        }
    }
}
