//! The constraints that needn't hold: the fewer pods a node's domains have, the better.

use std::sync::Arc;

use super::HOSTNAME;
use super::constraints::{self, Constraint};
use crate::cache::Slot;
use crate::framework::{Cycle, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::tally::Tally;
use crate::topology::PerDomain;

/// In the place of a score: the node lacks a label.
const LEFT_OUT: i64 = -1;

struct Spread {
    constraints: Vec<Counted>,
    /// Nodes that lack one of the labels are left out.
    all_labels: bool,
}

struct Counted {
    constraint: Constraint,
    tally: Option<Arc<Tally>>,
    /// Pods of the feasible nodes' domains. Hosts have their own.
    pods: PerDomain,
    /// How much one pod counts.
    weight: f64,
}

pub fn pre_score<'a>(cycle: Cycle<'a>, feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
    let constraints = constraints::of(cycle.pod, &cycle.cache.others, constraints::SCHEDULE_ANYWAY)
        .map_err(|error| format!("calculating preScoreState: {error}"))?;
    if constraints.is_empty() {
        return Ok(None);
    }
    let counted = constraints.into_iter().map(|constraint| Counted {
        tally: constraint.tally(cycle),
        pods: cycle.cache.per_domain(&constraint.topology_key),
        constraint,
        weight: 0.0,
    });
    // With the system's constraints, nodes that are in no zone still spread by name.
    let all_labels = !cycle.pod.wishes().spread.is_empty();
    let mut spread = Spread { constraints: counted.collect(), all_labels };
    spread.count(cycle);
    spread.weigh(feasible);
    Ok(Some(Box::new(spread)))
}

impl Spread {
    fn takes_part(&self, slot: Slot) -> bool {
        !self.all_labels || self.constraints.iter().all(|counted| counted.pods.at(slot).is_some())
    }

    fn count(&mut self, cycle: Cycle<'_>) {
        if self.constraints.iter().all(Counted::is_by_host) {
            return;
        }
        for slot in cycle.cache.ordered() {
            if !self.takes_part(*slot) {
                continue;
            }
            for counted in self.constraints.iter_mut().filter(|counted| !counted.is_by_host()) {
                let pods = counted.on(*slot);
                if pods > 0 && counted.constraint.includes(cycle.pod, cycle.cache.node(*slot).node()) {
                    counted.pods.add(*slot, pods);
                }
            }
        }
    }

    /// The more domains, the more one pod counts, so that a few large ones aren't drowned by many small ones.
    fn weigh(&mut self, feasible: &[Slot]) {
        let scored: Vec<Slot> = feasible.iter().copied().filter(|slot| self.takes_part(*slot)).collect();
        for counted in &mut self.constraints {
            let domains = if counted.is_by_host() { scored.len() } else { counted.domains(&scored) };
            counted.weight = (domains as f64 + 2.0).ln();
        }
    }
}

impl Counted {
    fn is_by_host(&self) -> bool {
        self.constraint.topology_key == HOSTNAME
    }

    fn on(&self, slot: Slot) -> i64 {
        self.tally.as_ref().map_or(0, |tally| tally.staying(slot))
    }

    /// How many domains these nodes are in; to be in none is one of them.
    fn domains(&self, slots: &[Slot]) -> usize {
        let mut seen = vec![false; self.pods.numbers().len() + 1];
        for slot in slots {
            let domain = self.pods.topology().domain(*slot);
            seen[domain.map_or(0, |domain| domain + 1)] = true;
        }
        seen.into_iter().filter(|seen| *seen).count()
    }
}

impl Score for Spread {
    fn score(&self, node: &NodeInfo) -> i64 {
        if !self.takes_part(node.slot) {
            return LEFT_OUT;
        }
        let mut score = 0.0;
        for counted in &self.constraints {
            let Some(of_domain) = counted.pods.at(node.slot) else { continue };
            let pods = if counted.is_by_host() { counted.on(node.slot) } else { of_domain };
            // The skew that is allowed anyway waters the differences down.
            score += pods as f64 * counted.weight + (counted.constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let counted = || scores.iter().copied().filter(|score| *score != LEFT_OUT);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                LEFT_OUT => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + least - score) / most,
            };
        }
    }
}
