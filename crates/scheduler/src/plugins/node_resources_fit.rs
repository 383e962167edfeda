//! NodeResourcesFit: what the pod requests must be left of what the node can give; among the nodes where it is, those
//! with the most left (LeastAllocated).

use std::borrow::Cow;

use crate::cache::Slot;
use crate::change::{Change, Kinds, Subject};
use crate::framework::{Cycle, Filter, MAX_SCORE, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::PodInfo;
use crate::resources::{Resources, Scored};

pub struct NodeResourcesFit;

struct Fits<'a>(&'a Resources);

struct LeastAllocated(Scored);

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Fits(&cycle.pod.requests.resources)))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        Ok(Some(Box::new(LeastAllocated(cycle.pod.requests.scored))))
    }

    fn events(&self) -> Kinds {
        Kinds::POD_DELETE | Kinds::POD_SCALE_DOWN | Kinds::NODE_ADD | Kinds::NODE_ALLOCATABLE
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        let wanted = &pod.requests.resources;
        match &change.subject {
            Subject::Node { old, new: Some(new) } => {
                let empty = Resources::default();
                insufficient(wanted, new, &empty, 0).is_ok()
                    && old.as_ref().is_none_or(|old| has_more(wanted, old, new))
            }
            Subject::Pod { old: Some(old), new: Some(new) } => {
                new.uid == pod.uid
                    || (new.node_name.is_some() && frees(wanted, &old.requests.resources, &new.requests.resources))
            }
            Subject::Pod { old: Some(_), new: None } => true,
            _ => false,
        }
    }
}

/// Whether the node can give more of anything wanted than it could.
fn has_more(wanted: &Resources, old: &Node, new: &Node) -> bool {
    new.allowed_pods > old.allowed_pods || frees(wanted, &new.allocatable, &old.allocatable)
}

/// Whether there is less of anything wanted.
fn frees(wanted: &Resources, before: &Resources, after: &Resources) -> bool {
    (wanted.milli_cpu > 0 && before.milli_cpu > after.milli_cpu)
        || (wanted.memory > 0 && before.memory > after.memory)
        || (wanted.ephemeral_storage > 0 && before.ephemeral_storage > after.ephemeral_storage)
        || wanted.scalars.iter().any(|(name, amount)| *amount > 0 && before.scalar(name) > after.scalar(name))
}

/// With everything that isn't left in sufficient quantity.
fn insufficient(wanted: &Resources, node: &Node, used: &Resources, pods: usize) -> Result<(), Rejection> {
    let mut rejection = Rejection { unresolvable: false, reasons: Vec::new() };
    if i64::try_from(pods).unwrap_or(i64::MAX) >= node.allowed_pods {
        rejection.reasons.push("Too many pods".into());
    }
    let mut check = |wanted: i64, all: i64, used: i64, reason: &dyn Fn() -> Cow<'static, str>| {
        if wanted > 0 && wanted > all - used {
            rejection.reasons.push(reason());
            rejection.unresolvable |= wanted > all;
        }
    };
    let all = &node.allocatable;
    check(wanted.milli_cpu, all.milli_cpu, used.milli_cpu, &|| "Insufficient cpu".into());
    check(wanted.memory, all.memory, used.memory, &|| "Insufficient memory".into());
    check(wanted.ephemeral_storage, all.ephemeral_storage, used.ephemeral_storage, &|| {
        "Insufficient ephemeral-storage".into()
    });
    for (name, amount) in &wanted.scalars {
        check(*amount, all.scalar(name), used.scalar(name), &|| format!("Insufficient {name}").into());
    }
    if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
}

impl Filter for Fits<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        insufficient(self.0, node.node(), &node.requested, node.pods.len())
    }
}

impl Score for LeastAllocated {
    fn score(&self, node: &NodeInfo) -> i64 {
        let all = &node.node().allocatable;
        let used = [
            (node.scored.milli_cpu + self.0.milli_cpu, all.milli_cpu),
            (node.scored.memory + self.0.memory, all.memory),
        ];
        let known = used.iter().filter(|(_, capacity)| *capacity > 0);
        let (sum, count) =
            known.fold((0, 0), |(sum, count), (used, capacity)| (sum + left(*used, *capacity), count + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

/// The part of `capacity` that isn't used, of [`MAX_SCORE`].
fn left(used: i64, capacity: i64) -> i64 {
    if used > capacity {
        0
    } else {
        (i128::from(capacity - used) * i128::from(MAX_SCORE) / i128::from(capacity)) as i64
    }
}
