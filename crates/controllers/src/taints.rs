//! Taints of nodes and what pods tolerate of them.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

pub(crate) const NO_SCHEDULE: &str = "NoSchedule";
pub(crate) const NO_EXECUTE: &str = "NoExecute";
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Those for which pods have to leave.
pub(crate) fn no_execute(node: &Node) -> Vec<Taint> {
    of(node).iter().filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// `ToleratesTaint`, as far as it is on by default: `Lt` and `Gt` are not.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (said(&toleration.effect), said(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match said(&toleration.operator).as_str() {
        "" | "Equal" => said(&toleration.value) == said(&taint.value),
        operator => operator == "Exists",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Cases of upstream's `TestTolerationToleratesTaint`.
    #[test]
    fn tolerations_match_taints() {
        let foo = |effect: &str| json!({ "key": "foo", "value": "bar", "effect": effect });
        let no_value = json!({ "key": "foo", "effect": NO_SCHEDULE });
        let cases: [(Value, Value, bool); 9] = [
            (json!({ "key": "foo", "operator": "Exists", "effect": NO_SCHEDULE }), foo(NO_SCHEDULE), true),
            (json!({ "key": "foo", "operator": "Exists" }), foo(NO_EXECUTE), true),
            (json!({ "operator": "Exists" }), foo(NO_SCHEDULE), true),
            (json!({ "key": "foo", "value": "bar" }), foo(NO_SCHEDULE), true),
            (json!({ "key": "foo", "operator": "Equal", "value": "other" }), foo(NO_SCHEDULE), false),
            (json!({ "key": "other", "operator": "Exists" }), foo(NO_SCHEDULE), false),
            (json!({ "key": "foo", "operator": "Exists", "effect": NO_EXECUTE }), foo(NO_SCHEDULE), false),
            (json!({ "key": "foo", "operator": "Equal" }), no_value, true),
            (json!({ "key": "foo", "operator": "Gt", "value": "1" }), foo(NO_SCHEDULE), false),
        ];
        for (toleration, taint, expected) in cases {
            let told: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            let taint: Taint = serde_json::from_value(taint).expect("a taint");
            assert_eq!(tolerates(&told, &taint), expected, "{toleration} {taint:?}");
        }
    }
}
