//! DefaultPreemption: room for a pod that fits nowhere, by ending pods of lower priority on one node, as few and as
//! unimportant as will do.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use rand::RngExt;

use crate::cache::Slot;
use crate::cycle::Filters;
use crate::diagnosis::{Answer, Diagnosis, Nomination, histogram};
use crate::framework::{Cycle, Plugin, Rejection};
use crate::pod::PodInfo;

/// Of a hundred nodes where it might help, so many are examined,
const CANDIDATES_PERCENTAGE: usize = 10;
/// and at least so many.
const LEAST_CANDIDATES: usize = 100;

pub struct DefaultPreemption;

/// Pods whose end would make room on a node, the most important first.
struct Candidate {
    slot: Slot,
    victims: Vec<Arc<PodInfo>>,
    /// Of them, those whose disruption budgets forbid it.
    violations: usize,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&self, cycle: Cycle<'_>, filters: &mut Filters<'_>, why: &Diagnosis) -> Option<Answer> {
        if let Some(reason) = not_eligible(cycle, why) {
            let message = format!("preemption: not eligible due to {reason}.");
            return Some(Answer { message, nomination: Nomination::AsItIs });
        }
        let (candidates, refusals) = examine(cycle, filters, why);
        let Some(best) = best(candidates) else {
            let all = cycle.cache.ordered().len();
            let absent = ("Preemption is not helpful for scheduling", all - refusals.len());
            let reasons = histogram(refusals.iter().map(|refusal| &refusal.reasons[..]), Some(absent));
            let message = format!("preemption: 0/{all} nodes are available: {reasons}.");
            return Some(Answer { message, nomination: Nomination::Nowhere });
        };
        let name = cycle.cache.node(best.slot).name.clone();
        let nomination = Nomination::Node { name, victims: best.victims };
        Some(Answer { message: String::new(), nomination })
    }
}

/// Why the pod may not make room for itself, if so.
fn not_eligible(cycle: Cycle<'_>, why: &Diagnosis) -> Option<&'static str> {
    let Cycle { pod, cache } = cycle;
    if !pod.wishes().preempts {
        return Some("preemptionPolicy=Never");
    }
    let slot = cache.find(pod.nominated_node.as_deref()?)?;
    if why.refusals.iter().any(|refusal| refusal.slot == slot && refusal.rejection.unresolvable) {
        return None;
    }
    let goes = |other: &Arc<PodInfo>| other.priority < pod.priority && other.terminating && other.preempted;
    cache.node(slot).pods.iter().any(goes).then_some("a terminating pod on the nominated node")
}

/// Tries the nodes where others' going may help; returns also why it wouldn't on those where it wouldn't.
fn examine(cycle: Cycle<'_>, filters: &mut Filters<'_>, why: &Diagnosis) -> (Vec<Candidate>, Vec<Rejection>) {
    let may_help = why.refusals.iter().filter(|refusal| !refusal.rejection.unresolvable);
    let nodes: Vec<Slot> = may_help.map(|refusal| refusal.slot).collect();
    let (mut candidates, mut refusals) = (Vec::new(), Vec::new());
    if nodes.is_empty() {
        return (candidates, refusals);
    }
    let enough = (nodes.len() * CANDIDATES_PERCENTAGE / 100).max(LEAST_CANDIDATES).min(nodes.len());
    let offset = rand::rng().random_range(0..nodes.len());
    for slot in nodes.iter().cycle().skip(offset).take(nodes.len()) {
        match victims(cycle, filters, *slot) {
            Ok(candidate) => candidates.push(candidate),
            Err(rejection) => refusals.push(rejection),
        }
        if candidates.len() >= enough && candidates.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
    }
    (candidates, refusals)
}

/// The fewest pods whose end would make room on the node: all that may go go, then each that needn't comes back, first
/// those whose budgets forbid their end, the most important first.
fn victims(cycle: Cycle<'_>, filters: &mut Filters<'_>, slot: Slot) -> Result<Candidate, Rejection> {
    let Cycle { pod, cache } = cycle;
    let mut node = cache.node(slot).clone();
    let mut potential: Vec<_> = node.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if potential.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    for victim in &potential {
        node.remove(victim);
        filters.remove(victim, &node);
    }
    let verdict = filters.judge_beside_nominated(cache, &node).map_err(|(_, rejection)| rejection);
    let now = Timestamp::now();
    potential.sort_by_key(|victim| importance(victim, now));
    let (violating, others) = cache.others.budgets.violated_by(potential.clone());
    let (mut victims, mut violations) = (Vec::new(), 0);
    if verdict.is_ok() {
        let first = violating.len();
        for (at, victim) in violating.into_iter().chain(others).enumerate() {
            node.add(victim.clone());
            filters.add(&victim, &node);
            if filters.judge_beside_nominated(cache, &node).is_err() {
                node.remove(&victim);
                filters.remove(&victim, &node);
                violations += usize::from(at < first);
                victims.push(victim);
            }
        }
    } else {
        victims = potential;
    }
    // The filters are needed for the next node as they were.
    for victim in &victims {
        filters.add(victim, &node);
    }
    verdict?;
    victims.sort_by_key(|victim| importance(victim, now));
    Ok(Candidate { slot, victims, violations })
}

/// The most important first: the higher priority, then who started earlier.
fn importance(pod: &PodInfo, now: Timestamp) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started.unwrap_or(now))
}

/// Upstream's `pickOneNodeForPreemption`: the fewest violated budgets, the least highest priority, the least sum of
/// priorities, the fewest victims, the latest start of the most important victims, the first.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    let now = Timestamp::now();
    let rank = |candidate: &Candidate| {
        let highest = candidate.victims.first().map_or(i32::MIN, |victim| victim.priority);
        // Shifted to be positive, so that many victims of negative priority don't count as less than a few.
        let sum: i64 = candidate.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
        let of_highest = candidate.victims.iter().filter(|victim| victim.priority == highest);
        let earliest = of_highest.map(|victim| victim.started.unwrap_or(now)).min();
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    };
    candidates.into_iter().min_by_key(rank)
}

#[cfg(test)]
mod tests;
