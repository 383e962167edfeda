//! The constraints that needn't hold: the fewer pods a node's domains have, the better.

use std::collections::{HashMap, HashSet};

use super::constraints::{self, Constraint};
use super::{HOSTNAME, has_all_labels};
use crate::cache::Slot;
use crate::framework::{Cycle, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// In the place of a score: the node lacks a label.
const LEFT_OUT: i64 = -1;

struct Spread<'a> {
    pod: &'a PodInfo,
    constraints: Vec<(Constraint, Counts<'a>)>,
    left_out: HashSet<&'a str>,
}

/// Pods by domain, and how much one pod counts. Hosts are counted when they are scored.
struct Counts<'a> {
    pods: HashMap<&'a str, i64>,
    weight: f64,
}

pub fn pre_score<'a>(cycle: Cycle<'a>, feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
    let constraints = constraints::of(cycle.pod, &cycle.cache.others, constraints::SCHEDULE_ANYWAY)
        .map_err(|error| format!("calculating preScoreState: {error}"))?;
    if constraints.is_empty() {
        return Ok(None);
    }
    // With the system's constraints, nodes that are in no zone still spread by name.
    let all_labels = !cycle.pod.wishes().spread.is_empty();
    let mut left_out = HashSet::new();
    let mut counts: Vec<HashMap<&'a str, i64>> = constraints.iter().map(|_| HashMap::new()).collect();
    for slot in feasible {
        let node = cycle.cache.node(*slot).node();
        if all_labels && !has_all_labels(node, &constraints) {
            left_out.insert(node.name.as_str());
            continue;
        }
        for (constraint, counts) in constraints.iter().zip(&mut counts) {
            if constraint.topology_key != HOSTNAME {
                counts.entry(node.labels.get(&constraint.topology_key).map_or("", String::as_str)).or_default();
            }
        }
    }
    count(cycle, &constraints, all_labels, &mut counts);
    let hosts = feasible.len() - left_out.len();
    let weighted = |constraint: &Constraint, pods: HashMap<&'a str, i64>| {
        let domains = if constraint.topology_key == HOSTNAME { hosts } else { pods.len() };
        Counts { pods, weight: (domains as f64 + 2.0).ln() }
    };
    let constraints = constraints
        .into_iter()
        .zip(counts)
        .map(|(constraint, pods)| {
            let counts = weighted(&constraint, pods);
            (constraint, counts)
        })
        .collect();
    Ok(Some(Box::new(Spread { pod: cycle.pod, constraints, left_out })))
}

/// Counts the pods of all nodes that share a domain with a feasible one.
fn count<'a>(cycle: Cycle<'a>, constraints: &[Constraint], all_labels: bool, counts: &mut [HashMap<&'a str, i64>]) {
    // Of hosts and of the zone that isn't one nothing is asked later.
    if counts.iter().all(|counts| counts.keys().all(|value| value.is_empty())) {
        return;
    }
    for slot in cycle.cache.ordered() {
        let info = cycle.cache.node(*slot);
        let node = info.node();
        if all_labels && !has_all_labels(node, constraints) {
            continue;
        }
        for (constraint, counts) in constraints.iter().zip(&mut *counts) {
            let value = node.labels.get(&constraint.topology_key);
            let Some(pods) = value.and_then(|value| counts.get_mut(value.as_str())) else { continue };
            if constraint.includes(cycle.pod, node) {
                *pods += constraint.count(info, cycle.pod);
            }
        }
    }
}

impl Score for Spread<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let node = info.node();
        if self.left_out.contains(node.name.as_str()) {
            return LEFT_OUT;
        }
        let mut score = 0.0;
        for (constraint, counts) in &self.constraints {
            let Some(value) = node.labels.get(&constraint.topology_key) else { continue };
            let pods = if constraint.topology_key == HOSTNAME {
                constraint.count(info, self.pod)
            } else {
                counts.pods.get(value.as_str()).copied().unwrap_or(0)
            };
            // The skew that is allowed anyway waters the differences down.
            score += pods as f64 * counts.weight + (constraint.max_skew - 1) as f64;
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
