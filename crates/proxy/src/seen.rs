//! Services and EndpointSlices as last seen, which Services changed since they were last applied, and which addresses
//! are ready anywhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tug_api::{Object, ObjectKey};
use tug_client::Change;

use crate::endpoints;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

#[derive(Default)]
pub(crate) struct Seen {
    services: HashMap<ObjectKey, Arc<Service>>,
    /// By Service, then by name.
    slices: HashMap<ObjectKey, BTreeMap<String, Arc<EndpointSlice>>>,
    /// How many slices list the address as ready.
    ready: HashMap<Ipv4Addr, usize>,
    changed: HashSet<ObjectKey>,
    generation: u64,
}

impl Seen {
    /// Counts changes.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn service(&mut self, change: &Change) {
        let key = change.object().key.clone();
        match change.new.as_ref().and_then(decoded::<Service>) {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        self.changed.insert(key);
        self.generation += 1;
    }

    pub(crate) fn slice(&mut self, change: &Change) {
        let old = change.old.as_ref().and_then(|object| owner(object));
        let new = change.new.as_ref().and_then(|object| Some((owner(object)?, decoded::<EndpointSlice>(object)?)));
        let name = &change.object().key.name;
        if let Some(service) = old.filter(|old| new.as_ref().is_none_or(|(new, _)| new != old)) {
            self.put_slice(service, name, None);
        }
        if let Some((service, slice)) = new {
            self.put_slice(service, name, Some(slice));
        }
        self.generation += 1;
    }

    fn put_slice(&mut self, service: ObjectKey, name: &str, slice: Option<Arc<EndpointSlice>>) {
        let slices = self.slices.entry(service.clone()).or_default();
        for address in slice.iter().flat_map(|slice| ready_addresses(slice)) {
            *self.ready.entry(address).or_default() += 1;
        }
        let replaced = match slice {
            Some(slice) => slices.insert(name.to_owned(), slice),
            None => slices.remove(name),
        };
        for address in replaced.iter().flat_map(|slice| ready_addresses(slice)) {
            if let Some(count) = self.ready.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.ready.remove(&address);
                }
            }
        }
        if self.slices.get(&service).is_some_and(BTreeMap::is_empty) {
            self.slices.remove(&service);
        }
        self.changed.insert(service);
    }

    /// Whether some EndpointSlice lists the address of a pod that is being deleted as ready and not terminating, or might
    /// still do so: a pod that was ready is in a slice of each Service that selects it, and as long as that doesn't call
    /// it terminating, the controller hasn't seen its deletion.
    pub(crate) fn leads_to(&self, pod: &Pod, address: Ipv4Addr) -> bool {
        self.ready.contains_key(&address)
            || (was_ready(pod) && self.selecting(pod).any(|service| !self.is_terminating(service, address)))
    }

    /// Services with an address of their own that select the pod.
    fn selecting<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a ObjectKey> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        let has = move |(name, value): (&String, &String)| labels.and_then(|labels| labels.get(name)) == Some(value);
        let selects = move |service: &Service| {
            let Some(spec) = &service.spec else { return false };
            let is_elsewhere = spec.type_.as_deref() == Some("ExternalName");
            let is_headless = spec.cluster_ip.as_deref() == Some("None");
            let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
            !is_elsewhere && !is_headless && selector.is_some_and(|selector| selector.iter().all(has))
        };
        let services = self.services.iter().filter(move |(key, _)| key.namespace == namespace);
        services.filter(move |(_, service)| selects(service)).map(|(key, _)| key)
    }

    fn is_terminating(&self, service: &ObjectKey, address: Ipv4Addr) -> bool {
        let address = address.to_string();
        let mut endpoints = self.slices(service).flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.any(|endpoint| {
            let terminating = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating);
            terminating == Some(true) && endpoint.addresses.contains(&address)
        })
    }

    pub(crate) fn take_changed(&mut self) -> HashSet<ObjectKey> {
        std::mem::take(&mut self.changed)
    }

    /// Every Service, changed or not.
    pub(crate) fn take_all(&mut self) -> HashSet<ObjectKey> {
        self.changed.clear();
        self.services.keys().cloned().collect()
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key).map(|service| &**service)
    }

    pub(crate) fn slices(&self, service: &ObjectKey) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values).map(|slice| &**slice)
    }
}

/// Whether the pod was ready when it was deleted.
fn was_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_some()
}

/// The Service that a slice belongs to.
fn owner(slice: &Object) -> Option<ObjectKey> {
    let name = slice.meta.labels.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.key.namespace.clone(), name.clone()))
}

fn decoded<K: serde::de::DeserializeOwned + Send + Sync + 'static>(object: &Arc<Object>) -> Option<Arc<K>> {
    object.typed().inspect_err(|error| tracing::warn!(object = %object.key, %error, "not of its kind's shape")).ok()
}

/// Of those slices alone that a controller keeps true to the pods: one that a person wrote lists a pod's address also
/// when the pod is long gone.
fn ready_addresses(slice: &EndpointSlice) -> impl Iterator<Item = Ipv4Addr> {
    let manager = slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    let is_kept = manager.is_some_and(|manager| manager == MANAGER);
    let endpoints = slice.endpoints.iter().flatten().filter(move |_| is_kept);
    endpoints
        .filter(|endpoint| {
            let terminating = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating);
            endpoints::is_ready(endpoint) && terminating != Some(true)
        })
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| address.parse().ok())
}
