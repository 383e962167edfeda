//! Addresses and node ports of Services. What is in use is read from the Services themselves; what is being handed out
//! right now is held until its write is done, so nothing is ever released by hand or leaked.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use rand::RngExt;
use serde_json::{Value, json};
use tug_api::field::FieldError;
use tug_api::{FieldErrors, Kind};

use super::metadata;
use crate::cache::{Cache, Select};
use crate::status::Status;

/// Hands out what Services need.
pub(super) struct Allocator {
    addresses: Ipv4Net,
    node_ports: RangeInclusive<u16>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

/// What one write was given; free for others once this is dropped and no Service holds it.
pub(super) struct Reserved<'a> {
    allocator: &'a Allocator,
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

// === impl Allocator ===

impl Allocator {
    pub(super) fn new(addresses: Ipv4Net, node_ports: RangeInclusive<u16>) -> Self {
        Self { addresses, node_ports, pending: Mutex::default() }
    }

    /// Fills in what a Service leaves to the server; nothing for other kinds.
    ///
    /// # Errors
    /// `Invalid` for what is taken or out of range.
    pub(super) fn assign(
        &self,
        cache: &Cache,
        kind: &'static Kind,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Reserved<'_>>, Status> {
        if !(kind.group.is_empty() && kind.kind == "Service" && service["spec"].is_object()) {
            return Ok(None);
        }
        if let Some(old) = old {
            keep_assigned(service, old);
        }
        let mut pending = self.pending.lock();
        let (mut addresses, mut ports) = (pending.addresses.clone(), pending.ports.clone());
        for other in cache.list(kind, &Select::default(), None, 0).objects {
            if other.meta.uid == metadata::text(service, "uid") {
                continue;
            }
            let Ok(value) = other.value() else { continue };
            addresses.extend(addresses_of(&value));
            ports.extend(ports_of(&value));
        }
        // What it holds already is its own, whatever another write of it is about to do.
        let held: HashSet<Ipv4Addr> = old.into_iter().flat_map(addresses_of).collect();
        let held_ports: HashSet<u16> = old.into_iter().flat_map(ports_of).collect();
        addresses.retain(|address| !held.contains(address));
        ports.retain(|port| !held_ports.contains(port));
        let mut errors = FieldErrors::new();
        self.assign_address(service, &addresses, &mut errors);
        self.assign_ports(service, &ports, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid(kind, metadata::text(service, "name"), errors));
        }
        let addresses: Vec<_> = addresses_of(service).filter(|address| !held.contains(address)).collect();
        let ports: Vec<_> = ports_of(service).filter(|port| !held_ports.contains(port)).collect();
        pending.addresses.extend(&addresses);
        pending.ports.extend(&ports);
        drop(pending);
        Ok(Some(Reserved { allocator: self, addresses, ports }))
    }

    fn assign_address(&self, service: &mut Value, taken: &HashSet<Ipv4Addr>, errors: &mut FieldErrors) {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return;
        }
        let headless = spec["clusterIP"] == "None";
        assign_families(spec, headless, errors);
        if headless {
            spec["clusterIPs"] = json!(["None"]);
            return;
        }
        let wanted =
            spec["clusterIP"].as_str().or_else(|| spec["clusterIPs"][0].as_str()).unwrap_or_default().to_owned();
        if wanted.is_empty() {
            match self.free_address(taken) {
                Some(address) => {
                    spec["clusterIP"] = address.to_string().into();
                    spec["clusterIPs"] = json!([address.to_string()]);
                }
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    errors.push(FieldError::invalid("spec.clusterIPs", &json!([]), detail));
                }
            }
            return;
        }
        if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
            spec["clusterIPs"] = json!([wanted]);
        }
        // What isn't an address is validation's to refuse.
        let Ok(address) = wanted.parse::<Ipv4Addr>() else { return };
        let why = if !self.addresses.contains(&address) {
            "the provided network does not match the current range"
        } else if address == self.addresses.network() || address == self.addresses.broadcast() {
            "the provided IP is not usable"
        } else if taken.contains(&address) {
            "provided IP is already allocated"
        } else {
            return;
        };
        let detail = format!("failed to allocate IP {address}: {why}");
        errors.push(FieldError::invalid("spec.clusterIPs", &spec["clusterIPs"], &detail));
    }

    /// Upstream keeps the lower part of the range for addresses that are asked for, and uses it last.
    fn free_address(&self, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let first = u32::from(self.addresses.network()) + 1;
        let last = u32::from(self.addresses.broadcast()).checked_sub(1).filter(|last| *last >= first)?;
        let kept = ((last - first + 1) / 16).clamp(16, 256);
        let is_free = |number: &u32| !taken.contains(&Ipv4Addr::from(*number));
        pick(first.saturating_add(kept).min(last + 1), last, is_free)
            .or_else(|| pick(first, last, is_free))
            .map(Ipv4Addr::from)
    }

    fn assign_ports(&self, service: &mut Value, taken: &HashSet<u16>, errors: &mut FieldErrors) {
        let spec = &mut service["spec"];
        let balances = spec["type"] == "LoadBalancer";
        if spec["type"] != "NodePort" && !balances {
            return;
        }
        let fills = !balances || spec["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true);
        // Within one Service, a port served over two protocols may have one node port.
        let mut own: Vec<(u64, String, u16)> = Vec::new();
        for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
            let number = port["port"].as_u64().unwrap_or(0);
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let path = format!("spec.ports[{index}].nodePort");
            let wanted = port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            let assigned = match wanted {
                Some(wanted) => {
                    if let Some(why) = self.refused(wanted, taken) {
                        errors.push(FieldError::invalid(path, &wanted.into(), &why));
                        continue;
                    }
                    wanted
                }
                None if !fills => continue,
                None => {
                    let shared = own.iter().find(|(n, p, _)| *n == number && *p != protocol).map(|(_, _, port)| *port);
                    let used = |port: &u32| own.iter().any(|(_, _, p)| u32::from(*p) == *port);
                    let free = |port: &u32| !used(port) && u16::try_from(*port).is_ok_and(|p| !taken.contains(&p));
                    let Some(found) = shared.or_else(|| self.free_port(free)) else {
                        errors.push(FieldError::invalid(
                            path,
                            &0.into(),
                            "failed to allocate a nodePort: range is full",
                        ));
                        continue;
                    };
                    port["nodePort"] = found.into();
                    found
                }
            };
            own.push((number, protocol, assigned));
        }
    }

    fn refused(&self, port: u16, taken: &HashSet<u16>) -> Option<String> {
        let (first, last) = (self.node_ports.start(), self.node_ports.end());
        if !self.node_ports.contains(&port) {
            let range = format!("{first}-{last}");
            return Some(format!("provided port is not in the valid range. The range of valid ports is {range}"));
        }
        taken.contains(&port).then(|| "provided port is already allocated".into())
    }

    fn free_port(&self, is_free: impl Fn(&u32) -> bool) -> Option<u16> {
        let (first, last) = (u32::from(*self.node_ports.start()), u32::from(*self.node_ports.end()));
        let kept = ((last - first + 1) / 32).clamp(16, 128);
        let found = pick((first + kept).min(last + 1), last, &is_free).or_else(|| pick(first, last, &is_free))?;
        u16::try_from(found).ok()
    }
}

/// A free number between `first` and `last`, from a random place on.
fn pick(first: u32, last: u32, is_free: impl Fn(&u32) -> bool) -> Option<u32> {
    if first > last {
        return None;
    }
    let start = rand::rng().random_range(first..=last);
    (start..=last).chain(first..start).find(is_free)
}

/// Families of a cluster that has IPv4 alone.
fn assign_families(spec: &mut Value, headless: bool, errors: &mut FieldErrors) {
    let has_selector = spec["selector"].as_object().is_some_and(|labels| !labels.is_empty());
    if headless && !has_selector && spec["ipFamilyPolicy"].is_null() {
        // Endpoints that a person writes by hand may be of any family.
        spec["ipFamilyPolicy"] = "RequireDualStack".into();
        if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
        return;
    }
    if headless && !has_selector {
        return;
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], detail));
    }
    for (index, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
        if family == "IPv6" {
            let path = format!("spec.ipFamilies[{index}]");
            errors.push(FieldError::invalid(path, family, "not configured on this cluster"));
        }
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

/// What a client left out of an update stays as it was; what the new type has no use for goes, if the client didn't
/// set it (upstream's `patchAllocatedValues` and `dropTypeDependentFields`).
fn keep_assigned(service: &mut Value, old: &Value) {
    let (spec, before) = (&mut service["spec"], &old["spec"]);
    let empty =
        |value: &Value| value.is_null() || *value == "" || *value == 0 || value.as_array().is_some_and(Vec::is_empty);
    let kind = |spec: &Value| spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let has_address = |kind: &str| kind != "ExternalName";
    let has_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let (now, then) = (kind(spec), kind(before));
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if has_address(&now) && has_address(&then) && empty(&spec[field]) && !empty(&before[field]) {
            spec[field] = before[field].clone();
        }
        if !has_address(&now)
            && has_address(&then)
            && spec[field] == before[field]
            && let Some(fields) = spec.as_object_mut()
        {
            fields.remove(field);
        }
    }
    let no_ports = Vec::new();
    let old_ports = before["ports"].as_array().unwrap_or(&no_ports);
    let mut used: HashSet<u64> =
        spec["ports"].as_array().into_iter().flatten().filter_map(|p| p["nodePort"].as_u64()).collect();
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        let same = old_ports.iter().find(|p| p["port"] == port["port"] && protocol(p) == protocol(port));
        let Some(held) = same.and_then(|p| p["nodePort"].as_u64()).filter(|p| *p != 0) else { continue };
        if has_ports(&now) && has_ports(&then) && empty(&port["nodePort"]) && used.insert(held) {
            port["nodePort"] = held.into();
        }
        if !has_ports(&now)
            && has_ports(&then)
            && port["nodePort"] == held
            && let Some(fields) = port.as_object_mut()
        {
            fields.remove("nodePort");
        }
    }
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

fn addresses_of(service: &Value) -> impl Iterator<Item = Ipv4Addr> {
    let texts = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok())
}

fn ports_of(service: &Value) -> impl Iterator<Item = u16> {
    let spec = &service["spec"];
    let numbers = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let numbers = numbers.chain(std::iter::once(&spec["healthCheckNodePort"]));
    numbers.filter_map(|n| n.as_u64().and_then(|n| u16::try_from(n).ok())).filter(|n| *n != 0)
}

// === impl Reserved ===

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        fn forget<T: Eq + Hash>(from: &mut HashSet<T>, what: &[T]) {
            for item in what {
                from.remove(item);
            }
        }
        let mut pending = self.allocator.pending.lock();
        forget(&mut pending.addresses, &self.addresses);
        forget(&mut pending.ports, &self.ports);
    }
}
