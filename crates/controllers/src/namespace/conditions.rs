//! What a namespace on its way out says of itself, in upstream's words (`deletion/status_condition_utils.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What a sweep left.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Content {
    /// Objects by `plural.group`.
    pub objects: BTreeMap<String, usize>,
    /// Objects by the finalizers that hold them.
    pub finalizers: BTreeMap<String, usize>,
    /// Why something couldn't be deleted.
    pub failures: Vec<String>,
}

impl Content {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.failures.is_empty()
    }

    pub fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        for (finalizer, number) in other.finalizers {
            *self.finalizers.entry(finalizer).or_default() += number;
        }
        self.failures.extend(other.failures);
    }
}

/// `before` with what `content` says; the same if that says nothing new.
pub(super) fn conditions(content: &Content, before: &[NamespaceCondition], now: &Time) -> Vec<NamespaceCondition> {
    let mut conditions = before.to_vec();
    for (kind, status, reason, message) in wanted(content) {
        let Some(held) = conditions.iter_mut().find(|held| held.type_ == kind) else {
            conditions.push(NamespaceCondition {
                type_: kind.into(),
                status: status.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_transition_time: Some(now.clone()),
            });
            continue;
        };
        if held.status != status {
            held.status = status.into();
            held.last_transition_time = Some(now.clone());
        }
        held.reason = Some(reason.into());
        held.message = Some(message);
    }
    conditions
}

/// Type, status, reason and message of each condition, in upstream's order.
fn wanted(content: &Content) -> [(&'static str, &'static str, &'static str, String); 5] {
    let all_well = |kind, reason, message: &str| (kind, "False", reason, message.to_owned());
    let listed = |numbers: &BTreeMap<String, usize>, has: &str| {
        let each = numbers.iter().map(|(name, number)| format!("{name} {has} {number} resource instances"));
        each.collect::<Vec<_>>().join(", ")
    };
    let failure = "NamespaceDeletionContentFailure";
    let failure = if content.failures.is_empty() {
        all_well(failure, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
    } else {
        let mut failures = content.failures.clone();
        failures.sort();
        let (number, failures) = (failures.len(), failures.join(", "));
        let message = format!("Failed to delete all resource types, {number} remaining: {failures}");
        (failure, "True", "ContentDeletionFailed", message)
    };
    let objects = "NamespaceContentRemaining";
    let objects = if content.objects.is_empty() {
        all_well(objects, "ContentRemoved", "All content successfully removed")
    } else {
        let message = format!("Some resources are remaining: {}", listed(&content.objects, "has"));
        (objects, "True", "SomeResourcesRemain", message)
    };
    let finalizers = "NamespaceFinalizersRemaining";
    let finalizers = if content.finalizers.is_empty() {
        all_well(finalizers, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
    } else {
        let listed = listed(&content.finalizers, "in");
        let message = format!("Some content in the namespace has finalizers remaining: {listed}");
        (finalizers, "True", "SomeFinalizersRemain", message)
    };
    [
        // The table of kinds is always at hand.
        all_well("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        all_well(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        failure,
        objects,
        finalizers,
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn shown(conditions: &[NamespaceCondition], kind: &str) -> (String, String, String) {
        let found = conditions.iter().find(|condition| condition.type_ == kind).expect("every condition is there");
        (found.status.clone(), found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default())
    }

    /// Expected from upstream's `ns_conditions_test.go` and `status_condition_utils_test.go`.
    #[test]
    fn what_remains_is_named() {
        let now = Time(Timestamp::UNIX_EPOCH);
        let clean = conditions(&Content::default(), &[], &now);
        let types: Vec<&str> = clean.iter().map(|condition| condition.type_.as_str()).collect();
        let expected = [
            "NamespaceDeletionDiscoveryFailure",
            "NamespaceDeletionGroupVersionParsingFailure",
            "NamespaceDeletionContentFailure",
            "NamespaceContentRemaining",
            "NamespaceFinalizersRemaining",
        ];
        assert_eq!(types, expected);
        assert!(clean.iter().all(|condition| condition.status == "False"));

        let held = Content {
            objects: [("deployments.apps".into(), 1), ("pods.".into(), 2)].into(),
            finalizers: [("custom.io/finalizer".into(), 1)].into(),
            failures: vec!["b".into(), "a".into()],
        };
        let later = Time(Timestamp::from_second(9).expect("a time"));
        let now_held = conditions(&held, &clean, &later);
        let cases = [
            (
                "NamespaceDeletionContentFailure",
                ("True", "ContentDeletionFailed", "Failed to delete all resource types, 2 remaining: a, b"),
            ),
            (
                "NamespaceContentRemaining",
                (
                    "True",
                    "SomeResourcesRemain",
                    "Some resources are remaining: deployments.apps has 1 resource instances, \
                     pods. has 2 resource instances",
                ),
            ),
            (
                "NamespaceFinalizersRemaining",
                (
                    "True",
                    "SomeFinalizersRemain",
                    "Some content in the namespace has finalizers remaining: \
                     custom.io/finalizer in 1 resource instances",
                ),
            ),
        ];
        for (kind, (status, reason, message)) in cases {
            assert_eq!(shown(&now_held, kind), (status.into(), reason.into(), message.into()));
        }
        let moved = |all: &[NamespaceCondition]| {
            all.iter().filter(|condition| condition.last_transition_time == Some(later.clone())).count()
        };
        assert_eq!(moved(&now_held), 3);
        assert_eq!(conditions(&held, &now_held, &now), now_held, "the same again is no change");
    }
}
