//! What a Service's Endpoints should say: addresses grouped by the ports that they share.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Service};
use tug_api::Object;

use crate::pod::Pod;
use crate::service_pods::{addresses, hostname, is_headless, target_port};

/// Addresses that one object lists at most.
pub(super) const MOST_ADDRESSES: usize = 1000;

/// In the order of subsets, and of addresses in them: by address, then by pod.
type AddressKey = (String, String);
/// In the order of ports in a subset. `None` stands for a headless Service without ports.
type PortKey = Option<(String, i32, String, Option<String>)>;

/// Addresses are the same for two ports when the same ones are ready.
type Addresses = BTreeMap<AddressKey, bool>;

pub(super) fn subsets(object: &Object, service: &Service, pods: &[Pod]) -> Vec<EndpointSubset> {
    let mut known = BTreeMap::new();
    let mut by_port = BTreeMap::<PortKey, Addresses>::new();
    let publishes_all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    for pod in pods.iter().filter(|pod| publishes_all || !pod.is_deleting()) {
        let Some(address) = address(object, service, pod) else { continue };
        let key = (address.ip.clone(), pod.uid().to_owned());
        known.insert(key.clone(), address);
        for port in ports(service, pod) {
            by_port.entry(port).or_default().insert(key.clone(), publishes_all || pod.is_ready());
        }
    }
    let mut grouped = BTreeMap::<Addresses, BTreeSet<PortKey>>::new();
    for (port, addresses) in by_port {
        grouped.entry(addresses).or_default().insert(port);
    }
    grouped.into_iter().map(|(addresses, ports)| subset(&known, &addresses, ports)).collect()
}

fn subset(
    known: &BTreeMap<AddressKey, EndpointAddress>,
    addresses: &Addresses,
    ports: BTreeSet<PortKey>,
) -> EndpointSubset {
    let those = |ready: bool| {
        let keys = addresses.iter().filter(|(_, is_ready)| **is_ready == ready);
        let found: Vec<_> = keys.filter_map(|(key, _)| known.get(key).cloned()).collect();
        Some(found).filter(|found| !found.is_empty())
    };
    let port = |(name, port, protocol, app_protocol): (String, i32, String, Option<String>)| EndpointPort {
        name: Some(name).filter(|name| !name.is_empty()),
        port,
        protocol: Some(protocol),
        app_protocol,
    };
    let ports: Vec<_> = ports.into_iter().flatten().map(port).collect();
    EndpointSubset {
        addresses: those(true),
        not_ready_addresses: those(false),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<PortKey> {
    let of_service = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if of_service.is_empty() {
        let is_headless = is_headless(service);
        return is_headless.then_some(None).into_iter().collect();
    }
    let found = of_service.iter().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((port.name.clone().unwrap_or_default(), target_port(pod, port)?, protocol, port.app_protocol.clone()))
    });
    found.map(Some).collect()
}

/// One address a pod, of the Service's first family.
fn address(object: &Object, service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let is_ipv6 = match spec.ip_families.as_deref().unwrap_or_default() {
        [first, ..] => first == "IPv6",
        [] if is_headless(service) => pod.status().pod_ip.contains(':'),
        [] => spec.cluster_ip.as_ref().is_some_and(|address| address.contains(':')),
    };
    Some(EndpointAddress {
        ip: addresses(pod, is_ipv6).into_iter().next()?,
        hostname: hostname(pod, object),
        node_name: Some(pod.spec().node_name.clone()).filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(pod.object.key.namespace.clone()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
    })
}

/// Cuts the subsets down to what one object may hold: ready addresses before others, of each subset its share. Returns
/// whether that was needed.
pub(super) fn truncate(subsets: &mut [EndpointSubset], most: usize) -> bool {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let not_ready: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + not_ready <= most {
        return false;
    }
    let cuts_ready = ready > most;
    let (room, total) = if cuts_ready { (most, ready) } else { (most - ready, not_ready) };
    let mut left = room;
    for subset in subsets {
        let EndpointSubset { addresses, not_ready_addresses, .. } = subset;
        let cut = if cuts_ready {
            *not_ready_addresses = None;
            addresses
        } else {
            not_ready_addresses
        };
        // Shares are rounded up: the last subset may get less.
        let share = (count(cut) * room).div_ceil(total).min(left);
        if let Some(list) = cut {
            list.truncate(share);
        }
        left -= count(cut);
        if count(cut) == 0 {
            *cut = None;
        }
    }
    true
}

#[cfg(test)]
#[path = "subsets_tests.rs"]
mod tests;
