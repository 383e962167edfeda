//! What a Service's EndpointSlices should say: each pod as an endpoint, those with the same ports together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tug_api::Object;
use tug_api::kinds::core::SERVICE;

use crate::owner::controller_reference;
use crate::pod::Pod;
use crate::service_pods::{addresses, hostname, is_headless, target_port};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";

/// A Service and what is known of the pods' nodes.
pub(super) struct Subject<'a> {
    pub object: &'a Object,
    pub service: &'a Service,
    /// The zone of a node; `None` for a node that isn't there.
    pub zone: &'a dyn Fn(&str) -> Option<String>,
}

/// Ports, in an order that doesn't depend on the Service's.
pub(super) type Ports = Vec<(String, i32, String, Option<String>)>;
/// What makes two endpoints one, however it fares: addresses, hostname, the pod's name.
pub(super) type Identity = (Vec<String>, Option<String>, Option<String>);
/// Endpoints by the ports that they have.
pub(super) type Groups = BTreeMap<Ports, BTreeMap<Identity, Endpoint>>;

pub(super) fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
    (addresses, endpoint.hostname.clone(), pod)
}

pub(super) fn ports_of(slice: &EndpointSlice) -> Ports {
    let ports = slice.ports.iter().flatten();
    let mut ports: Ports = ports
        .map(|port| {
            let EndpointPort { app_protocol, name, port, protocol } = port.clone();
            let protocol = protocol.unwrap_or_else(|| "TCP".into());
            (name.unwrap_or_default(), port.unwrap_or(0), protocol, app_protocol)
        })
        .collect();
    ports.sort();
    ports
}

impl Subject<'_> {
    /// `IPv4`, `IPv6` or both.
    pub fn address_types(&self) -> Vec<&'static str> {
        let spec = self.service.spec.as_ref();
        let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
        let types = ["IPv4", "IPv6"].into_iter();
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        match families {
            [] if is_headless(self.service) => types.collect(),
            [] => vec![if address.contains(':') { "IPv6" } else { "IPv4" }],
            families => types.filter(|kind| families.iter().any(|family| family == kind)).collect(),
        }
    }

    /// Endpoints of one address type. A pod whose node isn't known here is left out until it is, unless the Service
    /// wants pods whatever their state.
    pub fn groups(&self, pods: &[Pod], address_type: &str) -> Groups {
        let mut groups = Groups::new();
        for pod in pods {
            let group = groups.entry(self.ports(pod)).or_default();
            let zone = (self.zone)(&pod.spec().node_name);
            if zone.is_none() && !self.publishes_all() {
                continue;
            }
            let zone = zone.filter(|zone| !zone.is_empty());
            let endpoint = self.endpoint(pod, zone, addresses(pod, address_type == "IPv6"));
            if !endpoint.addresses.is_empty() {
                group.insert(identity(&endpoint), endpoint);
            }
        }
        groups
    }

    fn publishes_all(&self) -> bool {
        self.service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
    }

    fn ports(&self, pod: &Pod) -> Ports {
        let ports = self.service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let mut ports: Ports = ports
            .filter_map(|port| {
                let name = port.name.clone().unwrap_or_default();
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                Some((name, target_port(pod, port)?, protocol, port.app_protocol.clone()))
            })
            .collect();
        ports.sort();
        ports
    }

    fn endpoint(&self, pod: &Pod, zone: Option<String>, addresses: Vec<String>) -> Endpoint {
        let serving = pod.is_ready();
        let terminating = pod.is_deleting();
        // A terminating pod is never ready, so that those who know no more than that send it nothing new.
        let ready = self.publishes_all() || (serving && !terminating);
        let node = Some(pod.spec().node_name.clone()).filter(|name| !name.is_empty());
        Endpoint {
            addresses,
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hints: if ready { self.hints(zone.as_deref(), node.as_deref()) } else { None },
            hostname: hostname(pod, self.object),
            node_name: node,
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some(pod.object.key.namespace.clone()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
                ..ObjectReference::default()
            }),
            zone,
            ..Endpoint::default()
        }
    }

    /// Where traffic should come from, by the Service's `trafficDistribution`.
    fn hints(&self, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
        let wish = self.service.spec.as_ref()?.traffic_distribution.as_deref()?;
        let by_node = match wish {
            "PreferSameNode" => true,
            "PreferClose" | "PreferSameZone" => false,
            _ => return None,
        };
        let for_zones = zone.map(|name| vec![ForZone { name: name.into() }]);
        let for_nodes = node.filter(|_| by_node).map(|name| vec![ForNode { name: name.into() }]);
        (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
    }

    /// The Service's own labels, with those of its slices in place of any of the same name.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.object.meta.labels.clone();
        labels.remove(HEADLESS);
        if is_headless(self.service) {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(SERVICE_NAME.into(), self.object.key.name.clone());
        labels.insert(MANAGED_BY.into(), MANAGER.into());
        labels
    }

    pub fn new_slice(&self, address_type: &str, ports: &Ports) -> EndpointSlice {
        let port = |(name, port, protocol, app_protocol): &(String, i32, String, Option<String>)| EndpointPort {
            name: Some(name.clone()),
            port: Some(*port),
            protocol: Some(protocol.clone()),
            app_protocol: app_protocol.clone(),
        };
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", self.object.key.name)),
                namespace: Some(self.object.key.namespace.clone()),
                labels: Some(self.labels()),
                owner_references: Some(vec![controller_reference(&SERVICE, self.object)]),
                ..ObjectMeta::default()
            },
            address_type: address_type.into(),
            ports: Some(ports.iter().map(port).collect()),
            endpoints: Some(Vec::new()),
        }
    }

    pub fn owns(&self, slice: &EndpointSlice) -> bool {
        let mut owners = slice.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.uid == self.object.meta.uid && owner.kind == "Service" && owner.api_version == "v1")
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
