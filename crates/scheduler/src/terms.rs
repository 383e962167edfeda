//! What placed pods say about others: each term once, with where the pods are that hold it. Pods of one Deployment hold
//! the same terms, so a pod is matched against far fewer of them than there are pods.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::Slot;
use crate::pod::{Affinity, AffinityTerm};

/// What is to be done about pods that a term matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// They must not come near.
    Avoid,
    /// They had to be near.
    Need,
    /// With its weight; negative for those who would rather not have them near.
    Prefer(i64),
}

#[derive(Default)]
pub struct Terms(HashMap<Stance, HashMap<Arc<AffinityTerm>, Holders>>);

/// How many pods that hold a term each node has.
type Holders = HashMap<Slot, i64>;

impl Terms {
    /// A pod with this affinity came to a node, or left it.
    pub fn change(&mut self, affinity: &Affinity, slot: Slot, by: i64) {
        for (stance, term) in stances(affinity) {
            let terms = self.0.entry(stance).or_default();
            if !terms.contains_key(term) {
                terms.insert(Arc::new(term.clone()), Holders::new());
            }
            let Some(holders) = terms.get_mut(term) else { continue };
            let count = holders.entry(slot).or_default();
            *count += by;
            if *count == 0 {
                holders.remove(&slot);
            }
            if holders.is_empty() {
                terms.remove(term);
            }
        }
    }

    /// All terms held, with where.
    pub fn iter(&self) -> impl Iterator<Item = (Stance, &AffinityTerm, &Holders)> {
        self.0.iter().flat_map(|(stance, terms)| terms.iter().map(|(term, holders)| (*stance, &**term, holders)))
    }
}

/// What an affinity says of others, term by term.
fn stances(affinity: &Affinity) -> impl Iterator<Item = (Stance, &AffinityTerm)> {
    let avoid = affinity.required_anti.iter().map(|term| (Stance::Avoid, term));
    let need = affinity.required.iter().map(|term| (Stance::Need, term));
    let prefer = affinity.preferred.iter().map(|(weight, term)| (Stance::Prefer(*weight), term));
    avoid.chain(need).chain(prefer)
}
