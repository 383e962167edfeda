//! The taints and labels that a node's state asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A condition, the status that asks for a taint, and that taint's key.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Old names of labels, kept equal to the new ones.
const LABELS: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// Whether pods have to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The taints for that are as they should be.
    AsIs,
    /// They stay: no taint for that.
    None,
    /// They leave because of this one of [`NOT_READY`] and [`UNREACHABLE`].
    For(&'static str),
}

/// The taint that the node's readiness asks for. `None` when it is ready, or has never said.
pub(super) fn eviction_key(node: &Node) -> Option<&'static str> {
    keys(node).find(|key| matches!(*key, NOT_READY | UNREACHABLE))
}

/// True if pods are being driven out because the node isn't ready, or is silent.
pub(super) fn is_evicting(node: &Node, key: &str) -> bool {
    taints::of(node).iter().any(|taint| taint.effect == NO_EXECUTE && taint.key == key)
}

/// All taints that the node should have, if they aren't those that it has; others' are left as they are.
pub(super) fn taints(node: &Node, eviction: Eviction, now: &Time) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = keys(node).map(|key| (key, NO_SCHEDULE)).collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    if let Eviction::For(key) = eviction {
        wanted.push((key, NO_EXECUTE));
    }
    let is_ours = |taint: &Taint| match taint.effect.as_str() {
        NO_SCHEDULE => taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key),
        NO_EXECUTE => eviction != Eviction::AsIs && matches!(taint.key.as_str(), NOT_READY | UNREACHABLE),
        _ => false,
    };
    let held = taints::of(node);
    let has = |list: &[Taint], key: &str, effect: &str| list.iter().any(|t| t.key == key && t.effect == effect);
    let mut new: Vec<Taint> = held
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !has(&new, key, effect) {
            let time_added = Some(now.clone());
            new.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
        }
    }
    (new != held).then_some(new)
}

/// Labels that are missing or wrong.
pub(super) fn labels(node: &Node) -> BTreeMap<&'static str, String> {
    let label = |name: &str| node.metadata.labels.iter().flatten().find(|(key, _)| *key == name).map(|(_, v)| v);
    let missing = |(new, old): (&str, &'static str)| {
        let value = label(new)?;
        (label(old) != Some(value)).then(|| (old, value.clone()))
    };
    LABELS.into_iter().filter_map(missing).collect()
}

fn keys(node: &Node) -> impl Iterator<Item = &'static str> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    BY_CONDITION.into_iter().filter_map(move |(kind, status, key)| {
        conditions.iter().any(|condition| condition.type_ == kind && condition.status == status).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], unschedulable: bool) -> Node {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, status)| json!({ "type": kind, "status": status })).collect();
        let taints: Vec<Value> = taints.iter().map(|(key, effect)| json!({ "key": key, "effect": effect })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": "n" },
            "spec": { "taints": taints, "unschedulable": unschedulable },
            "status": { "conditions": conditions },
        }))
        .expect("a node")
    }

    /// Expected from upstream's `nodeConditionToTaintKeyStatusMap` and the cases of `TestTaintsNodeByCondition`.
    #[test]
    fn taints_follow_conditions() {
        use Eviction::{AsIs, For, None as Stay};
        const MEMORY: (&str, &str) = ("node.kubernetes.io/memory-pressure", NO_SCHEDULE);
        const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);
        const CORDONED: (&str, &str) = (UNSCHEDULABLE, NO_SCHEDULE);
        const DEDICATED: (&str, &str) = ("dedicated", NO_EXECUTE);
        let (not_ready, unreachable) = ((NOT_READY, NO_SCHEDULE), (UNREACHABLE, NO_SCHEDULE));
        let (ready, silent) = (("Ready", "True"), ("Ready", "Unknown"));
        let cases = [
            (node(&[ready], &[], false), AsIs, None),
            (node(&[ready], &[DEDICATED], false), Stay, None),
            (node(&[], &[], false), AsIs, None),
            (node(&[ready], &[], true), AsIs, Some(vec![CORDONED])),
            (node(&[ready], &[CORDONED, DEDICATED], false), AsIs, Some(vec![DEDICATED])),
            (node(&[ready, ("MemoryPressure", "True")], &[], false), AsIs, Some(vec![MEMORY])),
            (node(&[ready, ("NetworkUnavailable", "True")], &[MEMORY], false), AsIs, Some(vec![NETWORK])),
            (node(&[("Ready", "False")], &[], false), AsIs, Some(vec![not_ready])),
            (node(&[silent], &[not_ready], false), AsIs, Some(vec![unreachable])),
            (
                node(&[silent], &[unreachable], false),
                For(UNREACHABLE),
                Some(vec![unreachable, (UNREACHABLE, NO_EXECUTE)]),
            ),
            (
                node(&[silent], &[unreachable, (NOT_READY, NO_EXECUTE)], false),
                For(UNREACHABLE),
                Some(vec![unreachable, (UNREACHABLE, NO_EXECUTE)]),
            ),
            (node(&[silent], &[unreachable, (UNREACHABLE, NO_EXECUTE)], false), AsIs, None),
            (node(&[silent], &[unreachable, (UNREACHABLE, NO_EXECUTE)], false), Stay, Some(vec![unreachable])),
        ];
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        for (node, eviction, expected) in cases {
            let found = taints(&node, eviction, &now);
            let shown: Option<Vec<(&str, &str)>> =
                found.as_ref().map(|all| all.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect());
            assert_eq!(shown, expected, "{node:?} {eviction:?}");
        }
    }

    #[test]
    fn old_labels_follow_new_ones() {
        let mut node = node(&[], &[], false);
        assert!(labels(&node).is_empty());
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        node.metadata.labels = Some(
            [set("kubernetes.io/os", "linux"), set("kubernetes.io/arch", "arm64"), set(LABELS[1].1, "amd64")].into(),
        );
        assert_eq!(labels(&node), [(LABELS[0].1, "linux".into()), (LABELS[1].1, "arm64".into())].into());
    }
}
