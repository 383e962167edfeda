//! Preferences: the pod's for and against others, and theirs for and against it.

use std::collections::BTreeMap;

use super::unrolled;
use crate::framework::{Cycle, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::terms::Stance;
use crate::topology::PerDomain;

/// What a pod that must be near this one counts: upstream's `hardPodAffinityWeight`.
const REQUIRED_WEIGHT: i64 = 1;

/// The weights by each label that a term names.
struct Preferences(Vec<PerDomain>);

pub fn pre_score<'a>(cycle: Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
    let Cycle { pod, cache } = cycle;
    let mut weights: BTreeMap<&str, PerDomain> = BTreeMap::new();
    let own = pod.affinity.as_deref().map_or(&[][..], |affinity| &affinity.preferred);
    for (weight, term) in own {
        let sums = weights.entry(&term.topology_key).or_insert_with(|| cache.per_domain(&term.topology_key));
        for tally in unrolled(term, cache).tallies(cache) {
            for (slot, pods) in tally.slots() {
                sums.add(slot, weight * pods);
            }
        }
    }
    let labels = cache.others.namespaces.get(&pod.key.namespace);
    for (stance, term, holders) in cache.terms.iter() {
        let weight = match stance {
            Stance::Avoid => continue,
            Stance::Need => REQUIRED_WEIGHT,
            Stance::Prefer(weight) => weight,
        };
        if !term.matches(pod, labels) {
            continue;
        }
        let sums = weights.entry(&term.topology_key).or_insert_with(|| cache.per_domain(&term.topology_key));
        for (slot, pods) in holders {
            sums.add(*slot, weight * pods);
        }
    }
    weights.retain(|_, sums| !sums.is_zero());
    if weights.is_empty() { None } else { Some(Box::new(Preferences(weights.into_values().collect()))) }
}

impl Score for Preferences {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.iter().filter_map(|sums| sums.at(node.slot)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            let part = if most > least { (*score - least) as f64 / (most - least) as f64 } else { 0.0 };
            *score = (MAX_SCORE as f64 * part) as i64;
        }
    }
}
