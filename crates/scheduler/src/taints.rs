//! Taints of nodes against tolerations of pods.

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Whether one of `tolerations` tolerates a taint.
pub fn tolerated(tolerations: &[Toleration], key: &str, value: &str, effect: &str) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, key, value, effect))
}

/// Whether the pod may come to a node with these taints.
pub fn admitted(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let keeps_off = |taint: &&Taint| matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE);
    taints.iter().filter(keeps_off).all(|taint| is_tolerated(taint, tolerations))
}

pub fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerated(tolerations, &taint.key, taint.value.as_deref().unwrap_or_default(), &taint.effect)
}

fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let allows = |field: Option<&str>, taints: &str| matches!(field, None | Some("")) || field == Some(taints);
    if !allows(toleration.effect.as_deref(), effect) || !allows(toleration.key.as_deref(), key) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => toleration.value.as_deref().unwrap_or_default() == value,
        Some("Exists") => true,
        Some(_) => false,
    }
}
