//! PodTopologySpread: pods of one kind spread evenly over zones, nodes or any other label of nodes. Pods without
//! constraints of their own spread with those of their Service and workload, as far as that goes.

mod constraints;
mod hints;
mod scoring;

use crate::cache::Slot;
use crate::change::{Change, Kinds};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::topology::PerDomain;

use constraints::Constraint;

const HOSTNAME: &str = "kubernetes.io/hostname";

pub struct PodTopologySpread;

/// The constraints that must hold, each with how many pods each of its domains has.
struct Even<'a> {
    pod: &'a PodInfo,
    constraints: Vec<(Constraint, Domains)>,
}

struct Domains {
    /// Pods that count.
    pods: PerDomain,
    /// Domains of which any node counts.
    counting: Vec<bool>,
    /// The pods of the counting domain with the fewest; none if there should be more domains.
    fewest: i64,
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
        let Cycle { pod, cache } = cycle;
        let mut counted: Vec<_> = constraints
            .into_iter()
            .map(|constraint| {
                let pods = cache.per_domain(&constraint.topology_key);
                let domains = Domains { counting: vec![false; pods.numbers().len()], pods, fewest: 0 };
                (constraint, domains)
            })
            .collect();
        let tallies: Vec<_> = counted.iter().map(|(constraint, _)| constraint.tally(cycle)).collect();
        for slot in cache.ordered() {
            // Nodes without one of the labels take no part.
            if !counted.iter().all(|(_, domains)| domains.pods.at(*slot).is_some()) {
                continue;
            }
            for ((constraint, domains), tally) in counted.iter_mut().zip(&tallies) {
                if constraint.includes(pod, cache.node(*slot).node())
                    && let Some(domain) = domains.pods.topology().domain(*slot)
                {
                    domains.counting[domain] = true;
                    domains.pods.add(*slot, tally.as_ref().map_or(0, |tally| tally.staying(*slot)));
                }
            }
        }
        for (constraint, domains) in &mut counted {
            domains.find_fewest(constraint.min_domains);
        }
        Self { pod, constraints: counted }
    }

    fn change(&mut self, pod: &PodInfo, info: &NodeInfo, by: i64) {
        if pod.key.namespace != self.pod.key.namespace
            || !self.constraints.iter().all(|(_, domains)| domains.pods.at(info.slot).is_some())
        {
            return;
        }
        for (constraint, domains) in &mut self.constraints {
            if constraint.selects(pod) && constraint.includes(self.pod, info.node()) {
                domains.pods.add(info.slot, by);
                domains.find_fewest(constraint.min_domains);
            }
        }
    }
}

impl Domains {
    fn find_fewest(&mut self, min_domains: i32) {
        let counting = || self.pods.numbers().iter().zip(&self.counting).filter(|(_, counts)| **counts);
        let too_few = i32::try_from(counting().count()).is_ok_and(|domains| domains < min_domains);
        self.fewest = if too_few { 0 } else { counting().map(|(pods, _)| *pods).min().unwrap_or(0) };
    }
}

impl Filter for Even<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for (constraint, domains) in &self.constraints {
            let Some(pods) = domains.pods.at(node.slot) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let itself = i64::from(constraint.selects(self.pod));
            if pods + itself - domains.fewest > constraint.max_skew {
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
