//! What the cluster's names stand for: the little of Services, EndpointSlices and Namespaces that DNS tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::ProtoError;
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use tug_api::{Object, ObjectKey};
use tug_client::Change;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(crate) struct Zone {
    /// The cluster's domain, fully qualified.
    pub(crate) origin: Name,
    /// Counts changes: the SOA record's serial.
    pub(crate) serial: u32,
    /// Whether the first listings are in.
    pub(crate) is_open: bool,
    namespaces: HashSet<String>,
    services: HashMap<ObjectKey, Service>,
    /// By Service, then by name.
    slices: HashMap<ObjectKey, BTreeMap<String, Slice>>,
    cluster_ips: HashMap<Ipv4Addr, BTreeSet<ObjectKey>>,
    endpoint_ips: HashMap<Ipv4Addr, BTreeSet<ObjectKey>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Its own addresses.
    Addresses { addresses: Vec<Ipv4Addr>, ports: Vec<Port> },
    /// Its endpoints' addresses.
    Headless,
    /// Another name.
    Alias(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// In lower case.
    pub(crate) protocol: String,
    pub(crate) number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: Ipv4Addr,
    /// The pod's `hostname`, or the address with dashes.
    pub(crate) hostname: String,
}

impl Zone {
    pub(crate) fn new(domain: &str) -> Result<Self, ProtoError> {
        let mut origin = Name::from_ascii(domain.to_ascii_lowercase())?;
        origin.set_fqdn(true);
        Ok(Self {
            origin,
            serial: 1,
            is_open: false,
            namespaces: HashSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            cluster_ips: HashMap::new(),
            endpoint_ips: HashMap::new(),
        })
    }

    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn namespace(&mut self, change: &Change) {
        let name = change.object().key.name.clone();
        match change.new {
            Some(_) => self.namespaces.insert(name),
            None => self.namespaces.remove(&name),
        };
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn service(&mut self, change: &Change) {
        let key = change.object().key.clone();
        let new = change.new.as_ref().and_then(decoded::<core::Service>).and_then(|service| read_service(&service));
        let addresses = |service: &Option<Service>| match service {
            Some(Service::Addresses { addresses, .. }) => addresses.clone(),
            _ => Vec::new(),
        };
        let come = addresses(&new);
        let old = match new {
            Some(new) => self.services.insert(key.clone(), new),
            None => self.services.remove(&key),
        };
        reindex(&mut self.cluster_ips, &key, addresses(&old), come);
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn slice(&mut self, change: &Change) {
        let old = change.old.as_ref().and_then(|object| owner(object));
        let new = change.new.as_ref().and_then(|object| {
            let slice: Arc<discovery::EndpointSlice> = decoded(object)?;
            Some((owner(object)?, read_slice(&slice)?))
        });
        let name = &change.object().key.name;
        if let Some(service) = old.filter(|old| new.as_ref().is_none_or(|(new, _)| new != old)) {
            self.put_slice(service, name, None);
        }
        if let Some((service, slice)) = new {
            self.put_slice(service, name, Some(slice));
        }
        self.serial = self.serial.wrapping_add(1);
    }

    fn put_slice(&mut self, service: ObjectKey, name: &str, slice: Option<Slice>) {
        let before: Vec<Ipv4Addr> = self.endpoints(&service).map(|(_, endpoint)| endpoint.address).collect();
        let slices = self.slices.entry(service.clone()).or_default();
        match slice {
            Some(slice) => slices.insert(name.to_owned(), slice),
            None => slices.remove(name),
        };
        if slices.is_empty() {
            self.slices.remove(&service);
        }
        let after = self.endpoints(&service).map(|(_, endpoint)| endpoint.address).collect();
        reindex(&mut self.endpoint_ips, &service, before, after);
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// A Service's ready endpoints with the ports that they have.
    pub(crate) fn endpoints(&self, service: &ObjectKey) -> impl Iterator<Item = (&[Port], &Endpoint)> {
        let slices = self.slices.get(service).into_iter().flat_map(BTreeMap::values);
        slices.flat_map(|slice| slice.endpoints.iter().map(|endpoint| (slice.ports.as_slice(), endpoint)))
    }

    /// Services that have the address as their own.
    pub(crate) fn services_at(&self, address: Ipv4Addr) -> impl Iterator<Item = &ObjectKey> {
        self.cluster_ips.get(&address).into_iter().flatten()
    }

    /// Services that have an endpoint at the address.
    pub(crate) fn services_with_endpoint(&self, address: Ipv4Addr) -> impl Iterator<Item = &ObjectKey> {
        self.endpoint_ips.get(&address).into_iter().flatten()
    }
}

fn reindex(
    index: &mut HashMap<Ipv4Addr, BTreeSet<ObjectKey>>,
    key: &ObjectKey,
    gone: Vec<Ipv4Addr>,
    come: Vec<Ipv4Addr>,
) {
    for address in gone {
        if let Some(keys) = index.get_mut(&address) {
            keys.remove(key);
            if keys.is_empty() {
                index.remove(&address);
            }
        }
    }
    for address in come {
        index.entry(address).or_default().insert(key.clone());
    }
}

/// The Service that a slice belongs to.
fn owner(slice: &Object) -> Option<ObjectKey> {
    let name = slice.meta.labels.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.key.namespace.clone(), name.clone()))
}

fn decoded<K: serde::de::DeserializeOwned + Send + Sync + 'static>(object: &Arc<Object>) -> Option<Arc<K>> {
    object.typed().inspect_err(|error| tracing::warn!(object = %object.key, %error, "not of its kind's shape")).ok()
}

fn read_service(service: &core::Service) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let mut name = Name::from_ascii(spec.external_name.as_deref()?).ok()?;
        name.set_fqdn(true);
        return Some(Service::Alias(name));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Service::Headless);
    }
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<Ipv4Addr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(port.name.as_ref(), port.protocol.as_ref(), port.port)).collect();
    Some(Service::Addresses { addresses, ports })
}

fn read_slice(slice: &discovery::EndpointSlice) -> Option<Slice> {
    if slice.address_type != "IPv4" {
        return None;
    }
    let ports = slice.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(port.name.as_ref(), port.protocol.as_ref(), port.port?)).collect();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
        ready != Some(false)
    });
    let endpoints = ready.flat_map(|endpoint| {
        endpoint.addresses.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok()).map(|address| Endpoint {
            address,
            hostname: match &endpoint.hostname {
                Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
                _ => address.to_string().replace('.', "-"),
            },
        })
    });
    Some(Slice { ports, endpoints: endpoints.collect() })
}

fn read_port(name: Option<&String>, protocol: Option<&String>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.cloned().unwrap_or_default(),
        protocol: protocol.map_or("tcp".into(), |protocol| protocol.to_ascii_lowercase()),
        number: u16::try_from(number).ok()?,
    })
}
