//! A pod's quality of service, which its cgroup and its chance of being evicted depend on.

use serde_json::Value;

use crate::kinds::check::quantity;
use crate::kinds::walk::{list, some};

/// `ComputePodQOS`: `Guaranteed` if every container limits processor and memory to what it asks for, `BestEffort` if
/// none asks for anything, `Burstable` between these.
pub fn class(pod: &Value) -> &'static str {
    if let Some(resources) = some(pod, "/spec/resources")
        && (asks(resources, "requests") || asks(resources, "limits"))
    {
        return if guaranteed(resources) { "Guaranteed" } else { "Burstable" };
    }
    let containers = || list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let resources = || containers().map(|container| container.get("resources").unwrap_or(&Value::Null));
    if !resources().any(|resources| asks(resources, "requests") || asks(resources, "limits")) {
        return "BestEffort";
    }
    if resources().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

fn asks(resources: &Value, which: &str) -> bool {
    ["cpu", "memory"].iter().any(|name| amount(resources, which, name).is_some())
}

fn guaranteed(resources: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = amount(resources, "limits", name);
        limit.is_some() && amount(resources, "requests", name).is_none_or(|request| Some(request) == limit)
    })
}

fn amount(resources: &Value, which: &str, name: &str) -> Option<crate::Quantity> {
    resources.get(which)?.get(name).and_then(quantity).filter(|amount| amount.sign() > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_follow_upstreams_rules() {
        let both = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
        let full = json!({"limits": both("1", "1Gi"), "requests": both("1000m", "1024Mi")});
        let cases = [
            (vec![json!({})], "BestEffort"),
            (vec![full.clone()], "Guaranteed"),
            (vec![full.clone(), json!({})], "Burstable"),
            (vec![json!({"requests": {"cpu": "1"}})], "Burstable"),
            (vec![json!({"limits": both("1", "1Gi"), "requests": both("500m", "1Gi")})], "Burstable"),
            (vec![json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}})], "Burstable"),
            (vec![json!({"requests": {"cpu": "0"}})], "BestEffort"),
        ];
        for (resources, expected) in cases {
            let containers: Vec<Value> = resources.iter().map(|r| json!({"resources": r})).collect();
            assert_eq!(class(&json!({"spec": {"containers": containers}})), expected, "{resources:?}");
        }
    }
}
