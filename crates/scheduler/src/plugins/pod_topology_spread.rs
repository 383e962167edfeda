//! PodTopologySpread: pods of one kind spread evenly over zones, nodes or any other label of nodes. Pods without
//! constraints of their own spread with those of their Service and workload, as far as that goes.

mod constraints;
mod hints;
mod scoring;

use std::collections::{BTreeMap, HashMap};

use crate::cache::Slot;
use crate::change::{Change, Kinds};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::PodInfo;

use constraints::Constraint;

const HOSTNAME: &str = "kubernetes.io/hostname";

pub struct PodTopologySpread;

/// The constraints that must hold, each with how many pods each of its domains has.
struct Even<'a> {
    pod: &'a PodInfo,
    constraints: Vec<(Constraint, Domains<'a>)>,
}

/// Matching pods by the value of the topology's label.
#[derive(Default)]
struct Domains<'a> {
    pods: HashMap<&'a str, i64>,
    /// How many domains have so many pods.
    levels: BTreeMap<i64, usize>,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let constraints = match constraints::of(cycle.pod, &cycle.cache.others, constraints::DO_NOT_SCHEDULE) {
            Ok(constraints) => constraints,
            Err(error) => return PreFilter::Error(format!("get constraints from pod: {error}")),
        };
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(Even::new(cycle, constraints)))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        scoring::pre_score(cycle, feasible)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn events(&self) -> Kinds {
        Kinds::POD_ADD
            | Kinds::POD_LABEL
            | Kinds::POD_TOLERATION
            | Kinds::POD_DELETE
            | Kinds::NODE_ADD
            | Kinds::NODE_DELETE
            | Kinds::NODE_LABEL
            | Kinds::NODE_TAINT
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        hints::helps(pod, change)
    }
}

impl<'a> Even<'a> {
    fn new(cycle: Cycle<'a>, constraints: Vec<Constraint>) -> Self {
        let mut domains: Vec<Domains<'a>> = constraints.iter().map(|_| Domains::default()).collect();
        for slot in cycle.cache.ordered() {
            let info = cycle.cache.node(*slot);
            let node = info.node();
            if !has_all_labels(node, &constraints) {
                continue;
            }
            for (constraint, domains) in constraints.iter().zip(&mut domains) {
                if !constraint.includes(cycle.pod, node) {
                    continue;
                }
                if let Some(value) = node.labels.get(&constraint.topology_key) {
                    *domains.pods.entry(value).or_default() += constraint.count(info, cycle.pod);
                }
            }
        }
        for domains in &mut domains {
            for pods in domains.pods.values() {
                *domains.levels.entry(*pods).or_default() += 1;
            }
        }
        Self { pod: cycle.pod, constraints: constraints.into_iter().zip(domains).collect() }
    }

    fn change(&mut self, pod: &PodInfo, info: &NodeInfo, by: i64) {
        let node = info.node();
        if pod.key.namespace != self.pod.key.namespace
            || !self.constraints.iter().all(|(constraint, _)| node.labels.contains_key(&constraint.topology_key))
        {
            return;
        }
        for (constraint, domains) in &mut self.constraints {
            if constraint.selects(pod) && constraint.includes(self.pod, node) {
                domains.change(&node.labels[&constraint.topology_key], by);
            }
        }
    }
}

/// Nodes without one of the labels take no part.
fn has_all_labels(node: &Node, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|constraint| node.labels.contains_key(&constraint.topology_key))
}

impl Domains<'_> {
    /// The pods of the domain with the fewest; none if there should be more domains.
    fn fewest(&self, min_domains: i32) -> i64 {
        if i32::try_from(self.pods.len()).is_ok_and(|domains| domains < min_domains) {
            return 0;
        }
        self.levels.first_key_value().map_or(0, |(pods, _)| *pods)
    }

    fn change(&mut self, value: &str, by: i64) {
        let Some(pods) = self.pods.get_mut(value) else { return };
        if let Some(domains) = self.levels.get_mut(pods) {
            *domains -= 1;
            if *domains == 0 {
                self.levels.remove(pods);
            }
        }
        *pods += by;
        *self.levels.entry(*pods).or_default() += 1;
    }
}

impl Filter for Even<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for (constraint, domains) in &self.constraints {
            let Some(value) = node.node().labels.get(&constraint.topology_key) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let itself = i64::from(constraint.selects(self.pod));
            let pods = domains.pods.get(value.as_str()).copied().unwrap_or(0);
            if pods + itself - domains.fewest(constraint.min_domains) > constraint.max_skew {
                return Err(Rejection::resolvable("node(s) didn't match pod topology spread constraints"));
            }
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
