//! How large each ReplicaSet of a Deployment should be next. Pure: what is written follows from what is read.

use super::revision::{self, DESIRED, MAXIMUM};
use super::view::{Deployment, Set};

/// A set's next size, which may be the one that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub set: String,
    pub replicas: i32,
}

fn size(set: &Set, replicas: i32) -> Size {
    Size { set: set.name().to_owned(), replicas }
}

fn total<'a>(sets: impl IntoIterator<Item = &'a Set>) -> i32 {
    sets.into_iter().fold(0, |sum, set| sum.saturating_add(set.replicas))
}

/// The size of the newest set if all the room for surplus pods is used (upstream's `NewRSNewReplicas`). `existing` is
/// what all sets want together, `newest` what the newest wants of it.
pub(super) fn newest_size(deployment: &Deployment, existing: i32, newest: i32) -> i32 {
    let wanted = deployment.spec.replicas;
    if !deployment.is_rolling() {
        return wanted;
    }
    let most = wanted.saturating_add(deployment.surge_and_unavailable().0);
    newest + (most - existing).max(0).min(wanted - newest)
}

/// A rolling update's next step: first the newest set grows or shrinks; when it can't, old ones shrink. Empty when there
/// is nothing to do before pods change.
pub(super) fn rolling(deployment: &Deployment, newest: &Set, old: &[Set]) -> Vec<Size> {
    let wanted = deployment.spec.replicas;
    let next = match newest.replicas {
        replicas if replicas >= wanted => wanted,
        replicas => newest_size(deployment, total(old).saturating_add(replicas), replicas),
    };
    if next != newest.replicas {
        return vec![size(newest, next)];
    }
    shrink_old(deployment, newest, old)
}

/// Old sets give up pods that aren't available first, then as many others as there are too many available ones.
fn shrink_old(deployment: &Deployment, newest: &Set, old: &[Set]) -> Vec<Size> {
    let mut active: Vec<&Set> = old.iter().filter(|set| set.replicas > 0).collect();
    active.sort_by_key(|set| set.age());
    let least = deployment.spec.replicas - deployment.surge_and_unavailable().1;
    // Pods of the newest set that aren't available yet may never be: old ones must make up for them.
    let missing = newest.replicas - newest.available();
    let mut room = total(active.iter().copied()) + newest.replicas - least - missing;
    if room <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<(&Set, i32)> = active.iter().map(|set| (*set, set.replicas)).collect();
    for (set, replicas) in &mut sizes {
        let unhealthy = (set.replicas - set.available()).clamp(0, room);
        *replicas -= unhealthy;
        room -= unhealthy;
    }
    let available: i32 = active.iter().map(|set| set.available()).sum::<i32>() + newest.available();
    let mut surplus = (available - least).max(0);
    for (_, replicas) in &mut sizes {
        let taken = surplus.min(*replicas);
        *replicas -= taken;
        surplus -= taken;
    }
    sizes.into_iter().filter(|(set, replicas)| set.replicas != *replicas).map(|(set, next)| size(set, next)).collect()
}

/// The Deployment's number has changed since its sets were given their sizes.
pub(super) fn is_scaling(deployment: &Deployment, newest: Option<&Set>, old: &[Set]) -> bool {
    let active = old.iter().chain(newest).filter(|set| set.replicas > 0);
    let mut desired = active.filter_map(|set| set.annotation(DESIRED)?.parse::<i32>().ok());
    desired.any(|desired| desired != deployment.spec.replicas)
}

/// Sizes after a change of the Deployment's number, or while it is paused: a rollout under way keeps its proportions, so
/// that the change of size doesn't hasten it (upstream's `scale`).
pub(super) fn proportional(deployment: &Deployment, newest: Option<&Set>, old: &[Set]) -> Vec<Size> {
    let wanted = deployment.spec.replicas;
    let mut active: Vec<&Set> = old.iter().chain(newest).filter(|set| set.replicas > 0).collect();
    if active.len() <= 1 {
        let latest = || newest.or_else(|| old.iter().max_by_key(|set| set.age()));
        return active.first().copied().or_else(latest).map(|set| size(set, wanted)).into_iter().collect();
    }
    if newest.is_some_and(|set| is_saturated(deployment, set)) {
        return old.iter().filter(|set| set.replicas > 0).map(|set| size(set, 0)).collect();
    }
    if !deployment.is_rolling() {
        return Vec::new();
    }
    let allowed = if wanted > 0 { wanted.saturating_add(deployment.surge_and_unavailable().0) } else { 0 };
    let to_add = allowed - total(active.iter().copied());
    // The largest first; of the same size the newer one grows and the older one shrinks first.
    active.sort_by(|a, b| {
        let by_age = if to_add > 0 { b.age().cmp(&a.age()) } else { a.age().cmp(&b.age()) };
        b.replicas.cmp(&a.replicas).then(by_age)
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in active {
        let share = share(deployment, set, to_add, added);
        added += share;
        sizes.push(size(set, set.replicas + share));
    }
    // Roundings are the largest one's.
    if let Some(largest) = sizes.first_mut() {
        largest.replicas = (largest.replicas + to_add - added).max(0);
    }
    sizes
}

/// Nothing is left to roll out.
fn is_saturated(deployment: &Deployment, newest: &Set) -> bool {
    let wanted = deployment.spec.replicas;
    let desired = newest.annotation(DESIRED).and_then(|text| text.parse().ok());
    newest.replicas == wanted && desired == Some(wanted) && newest.available() == wanted
}

/// A set's part of what is to be added to all, or, if negative, removed.
fn share(deployment: &Deployment, set: &Set, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if left == 0 {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how much the set would grow if all sets grew alike.
fn fraction(deployment: &Deployment, set: &Set) -> i32 {
    if deployment.spec.replicas == 0 {
        return -set.replicas;
    }
    let annotated = set.annotation(MAXIMUM).and_then(|text| text.parse::<i32>().ok()).filter(|most| *most > 0);
    let before = annotated.unwrap_or(deployment.status.replicas.unwrap_or(0));
    if before <= 0 {
        return 0;
    }
    let most = deployment.spec.replicas.saturating_add(deployment.surge_and_unavailable().0);
    let next = f64::from(set.replicas) * f64::from(most) / f64::from(before);
    // Halves away from zero, as upstream rounds.
    next.round() as i32 - set.replicas
}

/// Old sets that a Deployment need not remember any more, by its `revisionHistoryLimit`.
pub(super) fn forgotten<'a>(deployment: &Deployment, old: &'a [Set]) -> Vec<&'a Set> {
    let Some(limit) = deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
        return Vec::new();
    };
    let mut sets: Vec<&Set> = old.iter().filter(|set| set.object.meta.deletion_timestamp.is_none()).collect();
    sets.sort_by_key(|set| revision::of(set));
    let surplus = sets.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    sets.truncate(surplus);
    // One that has pods, or may have, is kept.
    sets.retain(|set| {
        let seen = set.status.observed_generation.unwrap_or(0) >= set.object.meta.generation;
        set.replicas == 0 && set.status.replicas == 0 && seen
    });
    sets
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
