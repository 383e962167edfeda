//! TaintToleration: nodes whose taints the pod doesn't tolerate, and, among the others, fewer taints that would rather
//! not have it.

use k8s_openapi::api::core::v1::Toleration;

use crate::cache::Slot;
use crate::change::{Change, Kinds, Subject};
use crate::framework::{self, Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::taints;

pub struct TaintToleration;

struct Tolerating<'a>(&'a [Toleration]);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Tolerating(&cycle.pod.wishes().tolerations)))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        let tainted = |slot: &Slot| cycle.cache.node(*slot).node().taints.iter().any(prefers_not);
        if !feasible.iter().any(tainted) {
            return Ok(None);
        }
        Ok(Some(Box::new(Tolerating(&cycle.pod.wishes().tolerations))))
    }

    fn weight(&self) -> i64 {
        3
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD | Kinds::NODE_TAINT | Kinds::POD_TOLERATION
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        let tolerations = &pod.wishes().tolerations;
        match &change.subject {
            Subject::Node { old, new: Some(new) } => {
                let was_admitted = old.as_ref().is_some_and(|old| taints::admitted(&old.taints, tolerations));
                !was_admitted && taints::admitted(&new.taints, tolerations)
            }
            Subject::Pod { new: Some(new), .. } => new.uid == pod.uid,
            _ => false,
        }
    }
}

fn prefers_not(taint: &k8s_openapi::api::core::v1::Taint) -> bool {
    taint.effect == taints::PREFER_NO_SCHEDULE
}

impl Filter for Tolerating<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if taints::admitted(&node.node().taints, self.0) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }
}

impl Score for Tolerating<'_> {
    /// How many taints would rather not have the pod.
    fn score(&self, node: &NodeInfo) -> i64 {
        let unwelcome = |taint: &&_| prefers_not(taint) && !taints::is_tolerated(taint, self.0);
        node.node().taints.iter().filter(unwelcome).count().try_into().unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        framework::normalize(scores, true);
    }
}
