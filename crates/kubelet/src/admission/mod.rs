//! Whether this node takes a pod in at all. A pod that it refuses has failed, with the reason in its status and an event.

mod fields;
mod room;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

pub use fields::unsupported_in_container;

use crate::node::Capacity;

/// Why a pod is refused; both end up in its status and in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

impl Refusal {
    fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

/// Sysctls that are namespaced and can't harm other pods (upstream's safe set).
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// `others` have been taken in and haven't come to their end.
///
/// # Errors
/// The first reason against it.
pub fn admit(pod: &Pod, others: &[Arc<Pod>], capacity: &Capacity) -> Result<(), Refusal> {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name != "linux") {
        return Err(Refusal::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    if let Some(field) = fields::unsupported(pod) {
        return Err(Refusal::new("UnsupportedField", format!("{field} is not supported by this node")));
    }
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    for sysctl in context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten() {
        // Both separators are allowed in a pod; the list has dots.
        if !SAFE_SYSCTLS.contains(&sysctl.name.replace('/', ".").as_str()) {
            let message = format!("forbidden sysctl: {:?} not allowlisted", sysctl.name);
            return Err(Refusal::new("SysctlForbidden", message));
        }
    }
    room::check(pod, others, capacity)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons() {
        let capacity = Capacity { cpu_milli: 2000, memory_bytes: 4 << 30, disk_bytes: 1 << 40, pods: 3 };
        let other = |ports: serde_json::Value| -> Arc<Pod> {
            let containers = json!([{"name": "c", "ports": ports, "resources": {"requests": {"cpu": "1500m"}}}]);
            Arc::new(serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap())
        };
        let others = [other(json!([{"containerPort": 80, "hostPort": 8080}]))];
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let asks = |requests| json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        let port = |port, ip: &str, protocol: &str| {
            json!({"containers": [{"name": "c", "ports": [
                {"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]})
        };
        let taken = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        let cases = [
            (json!({}), None),
            (json!({"os": {"name": "windows"}}), Some(("PodOSNotSupported", "Failed to admit pod as the OS field"))),
            (json!({"runtimeClassName": "x"}), Some(("UnsupportedField", "spec.runtimeClassName is not supported"))),
            (sysctl("net.ipv4.tcp_syncookies"), None),
            (sysctl("net/ipv4/tcp_rmem"), None),
            (sysctl("kernel.msgmax"), Some(("SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted"))),
            (asks(json!({"cpu": "500m"})), None),
            (
                asks(json!({"cpu": "501m"})),
                Some(("OutOfcpu", "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000")),
            ),
            (
                asks(json!({"memory": "5Gi"})),
                Some((
                    "OutOfmemory",
                    "Node didn't have enough resource: memory, requested: 5368709120, used: 0, capacity: 4190109696",
                )),
            ),
            (asks(json!({"hugepages-2Mi": "2Mi"})), Some(("OutOfhugepages-2Mi", "Node didn't have enough resource"))),
            // A resource that no node of its own has is somebody else's.
            (asks(json!({"example.com/cluster": "1"})), None),
            (port(8081, "", "TCP"), None),
            (port(8080, "", "UDP"), None),
            (port(8080, "", "TCP"), Some(("NodePorts", taken))),
            (port(8080, "127.0.0.1", "TCP"), Some(("NodePorts", taken))),
        ];
        for (mut spec, expected) in cases {
            if spec.get("containers").is_none() {
                spec["containers"] = json!([{"name": "c"}]);
            }
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let got = admit(&pod, &others, &capacity).err();
            match (&got, expected) {
                (None, None) => {}
                (Some(got), Some((reason, start))) if got.reason == reason && got.message.starts_with(start) => {}
                _ => panic!("{spec}: {got:?}, expected {expected:?}"),
            }
        }
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
        let full = admit(&pod, &[other(json!([])), other(json!([])), other(json!([]))], &capacity).unwrap_err();
        assert_eq!(
            (full.reason.as_str(), full.message.as_str()),
            ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")
        );
    }
}
