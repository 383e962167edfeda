//! NodeAffinity: `nodeSelector` and node affinity, also by the node's name (`matchFields`).

use crate::cache::Slot;
use crate::change::{Change, Kinds, Subject};
use crate::framework::{self, Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::node_selector::{PreferredNodes, RequiredNodes};
use crate::pod::PodInfo;

pub struct NodeAffinity;

struct Required<'a>(&'a RequiredNodes);

struct Preferred<'a>(&'a PreferredNodes);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let required = &cycle.pod.wishes().required_nodes;
        if required.is_empty() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Required(required));
        match required.names() {
            None => PreFilter::Filter(filter),
            Some(names) if names.is_empty() => PreFilter::Reject("pod affinity terms conflict".into()),
            Some(names) => PreFilter::Within(names, filter),
        }
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        let preferred = &cycle.pod.wishes().preferred_nodes;
        if let Some(error) = &preferred.error {
            return Err(error.clone());
        }
        if preferred.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Preferred(preferred))))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD | Kinds::NODE_LABEL
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        let required = &pod.wishes().required_nodes;
        match &change.subject {
            Subject::Node { old, new: Some(new) } => {
                required.matches(new) && !old.as_ref().is_some_and(|old| required.matches(old))
            }
            _ => false,
        }
    }
}

impl Filter for Required<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.0.matches(node.node()) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.score(node.node())
    }

    fn normalize(&self, scores: &mut [i64]) {
        framework::normalize(scores, false);
    }
}
