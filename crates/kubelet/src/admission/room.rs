//! Room for a pod beside those that are here: what the scheduler checks before it binds one, checked again for pods that
//! were bound without it (upstream's `GeneralPredicates`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::Refusal;
use crate::node::Capacity;
use crate::pod;
use crate::resources::{Totals, pod_requests};

pub fn check(pod: &Pod, others: &[Arc<Pod>], capacity: &Capacity) -> Result<(), Refusal> {
    fits("pods", 1, others.len() as i64, i64::from(capacity.pods))?;
    let Some(spec) = &pod.spec else { return Ok(()) };
    let mut used = Totals::new();
    for (name, milli) in others.iter().filter_map(|other| other.spec.as_ref()).flat_map(pod_requests) {
        *used.entry(name).or_default() += milli;
    }
    let requests = pod_requests(spec);
    let asked = |name: &str| requests.get(name).copied().unwrap_or(0);
    let taken = |name: &str| used.get(name).copied().unwrap_or(0);
    fits("cpu", asked("cpu"), taken("cpu"), capacity.cpu_milli)?;
    fits("memory", asked("memory") / 1000, taken("memory") / 1000, capacity.allocatable_memory_bytes())?;
    let disk = "ephemeral-storage";
    fits(disk, asked(disk) / 1000, taken(disk) / 1000, capacity.allocatable_disk_bytes())?;
    for (name, milli) in requests.iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        fits(name, milli / 1000, taken(name) / 1000, 0)?;
    }
    if ports(pod).any(|port| others.iter().flat_map(|other| ports(other)).any(|other| clash(port, other))) {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::new("NodePorts", message));
    }
    Ok(())
}

fn fits(name: &str, requested: i64, used: i64, capacity: i64) -> Result<(), Refusal> {
    if requested == 0 || requested <= capacity - used {
        return Ok(());
    }
    let message =
        format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
    Err(Refusal::new(format!("OutOf{name}"), message))
}

/// Those that take a port of the node.
fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        let sidecars = pod::init_containers(spec).iter().filter(|container| pod::is_sidecar(container));
        spec.containers.iter().chain(sidecars)
    });
    containers.flat_map(|container| container.ports.iter().flatten()).filter(|port| port.host_port.unwrap_or(0) > 0)
}

fn clash(a: &ContainerPort, b: &ContainerPort) -> bool {
    let protocol = |port: &ContainerPort| port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let ip =
        |port: &ContainerPort| port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    let (first, second) = (ip(a), ip(b));
    a.host_port == b.host_port && protocol(a) == protocol(b) && (first == second || any(&first) || any(&second))
}
