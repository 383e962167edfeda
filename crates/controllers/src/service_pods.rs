//! Which pods are behind which Services: what the controllers of Endpoints and of EndpointSlices share.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use parking_lot::RwLock;
use tug_api::{Object, ObjectKey};
use tug_client::{Change, Informer, Queue};

use crate::pod::{Container, Pod};

/// Services' selectors, by namespace and name.
#[derive(Default)]
struct Selectors(RwLock<HashMap<String, BTreeMap<String, Labels>>>);

type Labels = BTreeMap<String, String>;

/// Adds each Service to the queue when it changes, and when a pod changes in a way that matters to it.
pub(crate) fn wake(
    queue: &Queue<ObjectKey>,
    services: &Informer<Service>,
    pods: &Informer<k8s_openapi::api::core::v1::Pod>,
) {
    let selectors = Arc::new(Selectors::default());
    let (known, add) = (selectors.clone(), queue.clone());
    services.subscribe(move |change| {
        known.note(change);
        add.add(change.object().key.clone());
    });
    let add = queue.clone();
    pods.subscribe(move |change| selectors.of(change).into_iter().for_each(|key| add.add(key)));
}

// === impl Selectors ===

impl Selectors {
    fn note(&self, change: &Change) {
        let key = &change.object().key;
        let service = change.new.as_ref().and_then(|object| object.typed::<Service>().ok());
        let selector = service.and_then(|service| selector(&service).cloned());
        let mut selectors = self.0.write();
        let of_namespace = selectors.entry(key.namespace.clone()).or_default();
        match selector {
            Some(selector) => {
                of_namespace.insert(key.name.clone(), selector);
            }
            None => {
                of_namespace.remove(&key.name);
                if of_namespace.is_empty() {
                    selectors.remove(&key.namespace);
                }
            }
        }
    }

    /// The Services that had or have the pod, if the change matters.
    fn of(&self, change: &Change) -> Vec<ObjectKey> {
        let sides: Vec<_> = [&change.old, &change.new].into_iter().flatten().cloned().collect();
        let read: Vec<_> = sides.iter().filter_map(|object| Pod::read(object.clone()).ok()).collect();
        if let [old, new] = read.as_slice()
            && relevant(old) == relevant(new)
        {
            return Vec::new();
        }
        let selectors = self.0.read();
        let Some(of_namespace) = selectors.get(&change.object().key.namespace) else { return Vec::new() };
        let matching =
            of_namespace.iter().filter(|(_, selector)| sides.iter().any(|pod| matches(selector, &pod.meta.labels)));
        matching.map(|(name, _)| ObjectKey::new(&change.object().key.namespace, name)).collect()
    }
}

/// Of a pod all that an endpoint is made of.
fn relevant(pod: &Pod) -> impl PartialEq {
    let Object { meta, .. } = &*pod.object;
    let addresses: Vec<_> = pod.status().pod_ips.iter().map(|ip| ip.ip.as_str()).collect();
    let spec = pod.spec();
    (
        (&meta.labels, &spec.hostname, &spec.subdomain, &spec.node_name),
        (pod.is_ready(), pod.is_deleting(), pod.has_ended()),
        addresses,
    )
}

fn matches(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Of a Service whose endpoints are pods; others have theirs from elsewhere or none.
fn selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// The Service's pods that have an address and haven't ended; `None` for a Service without a selector.
pub(crate) fn pods_of(service: &Service, pods: &[Pod]) -> Option<Vec<Pod>> {
    let selector = selector(service)?;
    let is_in = |pod: &&Pod| {
        let has_address = !pod.status().pod_ip.is_empty() || !pod.status().pod_ips.is_empty();
        matches(selector, &pod.object.meta.labels) && has_address && !pod.has_ended()
    };
    Some(pods.iter().filter(is_in).cloned().collect())
}

/// The pod's addresses of a family, as they are usually written.
pub(crate) fn addresses(pod: &Pod, ipv6: bool) -> Vec<String> {
    let parsed = pod.status().pod_ips.iter().filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
    parsed.filter(|address| address.is_ipv6() == ipv6).map(|address| address.to_string()).collect()
}

/// The pod's name within the Service's domain, if it asks for one there.
pub(crate) fn hostname(pod: &Pod, service: &Object) -> Option<String> {
    let spec = pod.spec();
    let is_named = !spec.hostname.is_empty() && spec.subdomain == service.key.name;
    is_named.then(|| spec.hostname.clone())
}

/// Which of the pod's ports the Service's port leads to. A name is looked up in the containers, then in sidecars.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec();
    let sidecars = spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|Container { ports, .. }| ports);
    let is_it = |of_pod: &&crate::pod::Port| {
        of_pod.name == *name && (of_pod.protocol == protocol || of_pod.protocol.is_empty() && protocol == "TCP")
    };
    ports.find(is_it).map(|port| port.container_port)
}

/// Has an address of its own that proxies answer for.
pub(crate) fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    address.is_empty() || address == "None"
}

#[cfg(test)]
#[path = "service_pods_tests.rs"]
mod tests;
