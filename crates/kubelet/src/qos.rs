//! Quality of service: a pod's class, its cgroup and how soon the kernel kills it when memory runs out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources::{bytes_of, milli_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// Of a pod: `kubepods/burstable/pod<uid>`; guaranteed pods sit directly below `kubepods`.
    pub fn cgroup(self, uid: &str) -> String {
        match self {
            Self::Guaranteed => format!("kubepods/pod{uid}"),
            Self::Burstable => format!("kubepods/burstable/pod{uid}"),
            Self::BestEffort => format!("kubepods/besteffort/pod{uid}"),
        }
    }

    /// As upstream's `ComputePodQOS`: cpu and memory of all containers, init containers too.
    pub fn of(spec: &PodSpec) -> Self {
        if let Some(resources) = &spec.resources
            && (resources.limits.is_some() || resources.requests.is_some())
        {
            return class([(resources.requests.as_ref(), resources.limits.as_ref())].into_iter());
        }
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        class(all.map(|container| {
            let resources = container.resources.as_ref();
            (
                resources.and_then(|resources| resources.requests.as_ref()),
                resources.and_then(|resources| resources.limits.as_ref()),
            )
        }))
    }
}

type List<'a> = Option<&'a BTreeMap<String, Quantity>>;

fn class<'a>(containers: impl Iterator<Item = (List<'a>, List<'a>)>) -> Qos {
    let (mut any, mut guaranteed) = (false, true);
    for (requests, limits) in containers {
        for name in ["cpu", "memory"] {
            let positive = |list: List| {
                let quantity = list.and_then(|list| list.get(name))?;
                Some(milli_of(quantity)).filter(|milli| *milli > 0)
            };
            let (request, limit) = (positive(requests), positive(limits));
            any |= request.is_some() || limit.is_some();
            // Requests default to limits when the pod is made.
            guaranteed &= limit.is_some() && request.or(limit) == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// Upstream's `GetContainerOOMScoreAdjust`.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i64) -> i32 {
    let Some(spec) = &pod.spec else { return 1000 };
    // system-node-critical and above.
    if spec.priority.is_some_and(|priority| priority >= 2_000_001_000) {
        return -997;
    }
    match Qos::of(spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let memory = requests.and_then(|requests| requests.get("memory")).map_or(0, bytes_of);
            let share = i128::from(memory) * 1000 / i128::from(node_memory_bytes.max(1));
            (1000 - share.min(1000) as i32).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let both = serde_json::json!({"cpu": "100m", "memory": "100Mi"});
        let cases = [
            (serde_json::json!([{"name": "a"}]), Qos::BestEffort),
            (serde_json::json!([{"name": "a", "resources": {"requests": both, "limits": both}}]), Qos::Guaranteed),
            (serde_json::json!([{"name": "a", "resources": {"limits": both}}]), Qos::Guaranteed),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "1m"}}}]), Qos::Burstable),
            (serde_json::json!([{"name": "a", "resources": {"limits": both}}, {"name": "b"}]), Qos::Burstable),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]), Qos::BestEffort),
            (
                serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "50m"}, "limits": both}}]),
                Qos::Burstable,
            ),
        ];
        for (containers, expected) in cases {
            assert_eq!(Qos::of(pod(containers.clone()).spec.as_ref().unwrap()), expected, "{containers}");
        }
    }

    #[test]
    fn oom_scores() {
        let gib: i64 = 1 << 30;
        let cases = [
            (serde_json::json!([{"name": "a"}]), 1000),
            (serde_json::json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), -997),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "1Gi"}}}]), 750),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "1Ki"}}}]), 999),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "4Gi"}}}]), 3),
            (serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), 999),
        ];
        for (containers, expected) in cases {
            let pod = pod(containers);
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(oom_score_adj(&pod, container, 4 * gib), expected);
        }
    }
}
