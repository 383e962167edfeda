//! Annotations by which a Deployment and its ReplicaSets remember revisions and sizes.

use std::collections::BTreeMap;

use super::view::{Deployment, Set};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// A ReplicaSet doesn't inherit these from its Deployment.
const NOT_INHERITED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.rollbackTo",
];
/// Characters of the history, of which the oldest are forgotten.
const LONGEST_HISTORY: usize = 2000;

/// 0 for a set without a readable one.
pub(super) fn of(set: &Set) -> i64 {
    set.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// One more than that of any old set.
pub(super) fn next(old: &[Set]) -> i64 {
    old.iter().map(of).max().unwrap_or(0) + 1
}

/// What a set's annotations become when it is (again) the Deployment's newest: the Deployment's own, and the revision,
/// which only grows. A set that is rolled back to remembers which revisions it has been.
pub(super) fn annotate_newest(
    deployment: &Deployment,
    annotations: &BTreeMap<String, String>,
    revision: i64,
) -> BTreeMap<String, String> {
    let mut next = annotations.clone();
    let inherited = deployment.annotations.iter().filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str()));
    next.extend(inherited.map(|(name, value)| (name.clone(), value.clone())));
    let before = annotations.get(REVISION).map(String::as_str).unwrap_or_default();
    let Some(known) = (if before.is_empty() { Some(0) } else { before.parse::<i64>().ok() }) else { return next };
    if known >= revision {
        return next;
    }
    next.insert(REVISION.into(), revision.to_string());
    if !before.is_empty() {
        let history = annotations.get(HISTORY).map(String::as_str).unwrap_or_default();
        next.insert(HISTORY.into(), remember(history, before));
    }
    next
}

fn remember(history: &str, revision: &str) -> String {
    let mut known: Vec<_> = history.split(',').filter(|entry| !entry.is_empty()).chain([revision]).collect();
    let length = |known: &[&str]| known.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1);
    while known.len() > 1 && length(&known) > LONGEST_HISTORY {
        known.remove(0);
    }
    known.join(",")
}

/// Marks a set with the size that its Deployment has now; by it a later change of size is told from a rollout.
pub(super) fn annotate_size(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    let desired = deployment.spec.replicas;
    annotations.insert(DESIRED.into(), desired.to_string());
    annotations.insert(MAXIMUM.into(), desired.saturating_add(deployment.surge_and_unavailable().0).to_string());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{deployment, set};
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Upstream's `TestAnnotationUtils`.
    #[test]
    fn the_newest_set_has_the_highest_revision_and_remembers_its_others() {
        let mut deployment = deployment(&json!({ "replicas": 1 }));
        deployment.annotations = annotations(&[
            ("kubernetes.io/change-cause", "why"),
            (REVISION, "9"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ]);
        let cause = ("kubernetes.io/change-cause", "why");
        let cases = [
            ("a new one", vec![], 1, vec![cause, (REVISION, "1")]),
            ("as it is", vec![cause, (REVISION, "3")], 2, vec![cause, (REVISION, "3")]),
            ("ten is more than nine", vec![(REVISION, "9")], 10, vec![cause, (HISTORY, "9"), (REVISION, "10")]),
            ("again", vec![(HISTORY, "1,3"), (REVISION, "5")], 7, vec![cause, (HISTORY, "1,3,5"), (REVISION, "7")]),
            ("unreadable", vec![(REVISION, "x")], 7, vec![cause, (REVISION, "x")]),
        ];
        for (case, before, revision, after) in cases {
            let next = annotate_newest(&deployment, &annotations(&before), revision);
            assert_eq!(next, annotations(&after), "{case}");
        }
    }

    #[test]
    fn the_history_forgets_its_oldest() {
        let long = (1000..1400).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(long.len(), 1999);
        let next = remember(&long, "1400");
        assert_eq!((next.len(), next.starts_with("1001,"), next.ends_with(",1400")), (1999, true, true));
    }

    #[test]
    fn revisions_count_on_from_the_highest_old_one() {
        let with = |name, revision: &str| set(name, &json!({ "metadata": { "annotations": { REVISION: revision } } }));
        assert_eq!(next(&[with("a", "2"), with("b", "11"), with("c", "x")]), 12);
        assert_eq!(next(&[]), 1);
    }
}
