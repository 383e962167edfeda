//! Which endpoints of a Service's port get traffic, by upstream's rules (`pkg/proxy/topology.go`).

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

/// One endpoint of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    local: bool,
    ready: bool,
    serving: bool,
    terminating: bool,
}

/// Takes new connections by its conditions alone. Unset means yes.
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    conditions(endpoint).0
}

/// Ready, serving, terminating.
fn conditions(endpoint: &Endpoint) -> (bool, bool, bool) {
    let EndpointConditions { ready, serving, terminating } = endpoint.conditions.clone().unwrap_or_default();
    let ready = ready.unwrap_or(true);
    (ready, serving.unwrap_or(ready), terminating.unwrap_or(false))
}

/// All endpoints of the port that the slices list, in order, each once.
pub(crate) fn targets<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    node_name: &str,
) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    for slice in slices.filter(|slice| slice.address_type == "IPv4") {
        let Some(number) = port_number(slice, port) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            // Upstream: the first address is as good as the others.
            let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else {
                continue;
            };
            let (ready, serving, terminating) = conditions(endpoint);
            let local = endpoint.node_name.as_deref() == Some(node_name);
            found.push(Target { address, port: number, local, ready, serving, terminating });
        }
    }
    found.sort_by_key(|target| (target.address, target.port, !target.ready));
    found.dedup_by_key(|target| (target.address, target.port));
    found
}

fn port_number(slice: &EndpointSlice, wanted: &ServicePort) -> Option<u16> {
    let name = wanted.name.as_deref().unwrap_or_default();
    let protocol = wanted.protocol.as_deref().unwrap_or("TCP");
    let port = slice.ports.iter().flatten().find(|port| {
        port.name.as_deref().unwrap_or_default() == name && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })?;
    port.port.and_then(|number| u16::try_from(number).ok())
}

/// Those that get traffic from anywhere: the ready ones; where none is ready, those that still serve while they
/// terminate.
pub(crate) fn cluster(targets: &[Target]) -> Vec<(Ipv4Addr, u16)> {
    choose(targets.iter())
}

/// The same among this node's own.
pub(crate) fn local(targets: &[Target]) -> Vec<(Ipv4Addr, u16)> {
    choose(targets.iter().filter(|target| target.local))
}

fn choose<'a>(targets: impl Iterator<Item = &'a Target> + Clone) -> Vec<(Ipv4Addr, u16)> {
    let place = |target: &Target| (target.address, target.port);
    let ready: Vec<_> = targets.clone().filter(|target| target.ready).map(place).collect();
    if !ready.is_empty() {
        return ready;
    }
    targets.filter(|target| target.serving && target.terminating).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(last: u8, local: bool, conditions: &str) -> Target {
        let has = |letter| conditions.contains(letter);
        let address = [10, 244, 0, last].into();
        Target { address, port: 80, local, ready: has('r'), serving: has('s'), terminating: has('t') }
    }

    /// Cases of upstream's `TestCategorizeEndpoints`.
    #[test]
    fn ready_ones_first_then_those_that_serve_while_terminating() {
        type Case<'a> = (&'a str, Vec<Target>, &'a [u8], &'a [u8]);
        let cases: [Case<'_>; 5] = [
            ("all ready", vec![target(1, true, "rs"), target(2, false, "rs")], &[1, 2], &[1]),
            ("one terminating", vec![target(1, true, "st"), target(2, false, "rs")], &[2], &[1]),
            ("all terminating", vec![target(1, true, "st"), target(2, false, "t")], &[1], &[1]),
            ("none serving", vec![target(1, true, "t"), target(2, false, "")], &[], &[]),
            ("serving but not terminating is not ready", vec![target(1, true, "s")], &[], &[]),
        ];
        for (case, targets, everywhere, here) in cases {
            let last = |found: Vec<(Ipv4Addr, u16)>| -> Vec<u8> { found.iter().map(|(a, _)| a.octets()[3]).collect() };
            assert_eq!(last(cluster(&targets)), everywhere, "{case}");
            assert_eq!(last(local(&targets)), here, "{case}, local");
        }
    }
}
