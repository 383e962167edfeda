//! How many pods of a namespace a selector selects on each node: counted once, then kept up as pods come and go, so that
//! spreading the next pod of a Deployment looks at numbers and not at the labels of all pods.

use std::collections::HashMap;
use std::sync::Arc;

use tug_api::Selector;

use crate::cache::Slot;
use crate::pod::PodInfo;

/// So many are kept; past them the one that wasn't asked for the longest is counted anew when it is.
const MOST: usize = 256;

/// Pods by slot.
#[derive(Clone, Default)]
pub struct Tally {
    pods: Vec<Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    all: i64,
    /// Without those that end.
    staying: i64,
}

#[derive(Default)]
pub struct Tallies {
    /// By namespace.
    kept: HashMap<String, HashMap<Selector, Kept>>,
    count: usize,
    asked: u64,
}

struct Kept {
    tally: Arc<Tally>,
    /// When it was last asked for, in askings.
    asked: u64,
}

impl Tally {
    /// Of pods that don't end.
    pub fn staying(&self, slot: Slot) -> i64 {
        self.pods.get(slot).map_or(0, |count| count.staying)
    }

    /// The slots of nodes that have any, also of those that end, with how many.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, i64)> {
        self.pods.iter().enumerate().map(|(slot, count)| (slot, count.all)).filter(|(_, all)| *all > 0)
    }

    fn add(&mut self, pod: &PodInfo, slot: Slot, by: i64) {
        if self.pods.len() <= slot {
            self.pods.resize(slot + 1, Count::default());
        }
        self.pods[slot].all += by;
        if !pod.terminating {
            self.pods[slot].staying += by;
        }
    }
}

impl Tallies {
    /// The tally of this selector; `pods` are all there are, for one that isn't kept yet.
    pub fn get<'a>(
        &mut self,
        namespace: &str,
        selector: &Selector,
        pods: impl Iterator<Item = (&'a PodInfo, Slot)>,
    ) -> Arc<Tally> {
        self.asked += 1;
        let asked = self.asked;
        if let Some(kept) = self.kept.get_mut(namespace).and_then(|kept| kept.get_mut(selector)) {
            kept.asked = asked;
            return kept.tally.clone();
        }
        let mut tally = Tally::default();
        for (pod, slot) in pods {
            if pod.key.namespace == namespace && selector.matches(&pod.labels) {
                tally.add(pod, slot, 1);
            }
        }
        let tally = Arc::new(tally);
        if self.count >= MOST {
            self.forget_oldest();
        }
        self.count += 1;
        let kept = self.kept.entry(namespace.into()).or_default();
        kept.insert(selector.clone(), Kept { tally: tally.clone(), asked });
        tally
    }

    /// A pod came to a node, or left it.
    pub fn change(&mut self, pod: &PodInfo, slot: Slot, by: i64) {
        for (selector, kept) in self.kept.get_mut(&pod.key.namespace).into_iter().flatten() {
            if selector.matches(&pod.labels) {
                // Nobody else holds it between pods' turns, so nothing is copied.
                Arc::make_mut(&mut kept.tally).add(pod, slot, by);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let all = self.kept.values().flat_map(HashMap::values);
        let Some(oldest) = all.map(|kept| kept.asked).min() else { return };
        self.kept.retain(|_, kept| {
            kept.retain(|_, kept| kept.asked != oldest);
            !kept.is_empty()
        });
        self.count -= 1;
    }
}
