//! How endpoints are spread over slices: with as few writes as may be, each of which goes to every node. The strategy
//! is upstream's (`endpointslice/reconciler.go`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::desired::{Groups, Identity, Ports, Subject, identity, ports_of};

/// What is to be written.
#[derive(Default)]
pub(super) struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// The writes for one Service. `existing` are its slices, `wanted` has endpoints by address type.
pub(super) fn plan(
    subject: &Subject<'_>,
    existing: &[Arc<EndpointSlice>],
    wanted: Vec<(&'static str, Groups)>,
    most: usize,
) -> Plan {
    let mut plan = Plan::default();
    let is_wanted = |slice: &&Arc<EndpointSlice>| wanted.iter().any(|(kind, _)| slice.address_type == *kind);
    plan.delete.extend(existing.iter().filter(|slice| !is_wanted(slice)).cloned());
    for (address_type, groups) in wanted {
        let existing = existing.iter().filter(|slice| slice.address_type == address_type).cloned().collect();
        plan.append(of_type(subject, address_type, existing, groups, most));
    }
    plan
}

fn of_type(
    subject: &Subject<'_>,
    address_type: &str,
    existing: Vec<Arc<EndpointSlice>>,
    mut groups: Groups,
    most: usize,
) -> Plan {
    // Slices of an earlier Service of the same name.
    let (own, foreign): (Vec<_>, Vec<_>) = existing.into_iter().partition(|slice| subject.owns(slice));
    let mut by_ports = BTreeMap::<Ports, Vec<Arc<EndpointSlice>>>::new();
    for slice in own {
        by_ports.entry(ports_of(&slice)).or_default().push(slice);
    }
    let mut plan = Plan::default();
    let mut kept = 0;
    if groups.values().all(BTreeMap::is_empty) {
        groups.clear();
    }
    for (ports, endpoints) in groups {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        let new_slice = || subject.new_slice(address_type, &ports);
        kept += slices.len();
        let of_group = of_group(subject, slices, endpoints, most, new_slice);
        kept -= of_group.delete.len();
        plan.append(of_group);
    }
    plan.delete.extend(by_ports.into_values().flatten());
    if kept == 0 && plan.create.is_empty() {
        // A Service always has a slice, so that who follows it can tell no endpoints from no news.
        let placeholder = subject.new_slice(address_type, &Ports::new());
        match plan.delete.iter().position(|slice| is_same_but_for_name(slice, &placeholder)) {
            Some(at) => {
                plan.delete.remove(at);
            }
            None => plan.create.push(placeholder),
        }
    }
    plan.reuse_deleted();
    plan.delete.extend(foreign);
    plan
}

fn is_same_but_for_name(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    let is_empty = |slice: &EndpointSlice| slice.endpoints.iter().flatten().next().is_none();
    a.metadata.labels == b.metadata.labels && ports_of(a) == ports_of(b) && is_empty(a) && is_empty(b)
}

/// Endpoints with the same ports.
fn of_group(
    subject: &Subject<'_>,
    existing: Vec<Arc<EndpointSlice>>,
    mut wanted: BTreeMap<Identity, Endpoint>,
    most: usize,
    new_slice: impl Fn() -> EndpointSlice,
) -> Plan {
    let labels = Some(subject.labels());
    let (mut plan, mut unchanged) = (Plan::default(), Vec::new());
    for slice in existing {
        let said = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<_> = said.iter().filter_map(|endpoint| wanted.remove(&identity(endpoint))).collect();
        if kept.is_empty() && !said.is_empty() {
            plan.delete.push(slice);
        } else if kept != said || slice.metadata.labels != labels {
            plan.update.push(with_endpoints(&slice, kept, labels.clone()));
        } else {
            unchanged.push(slice);
        }
    }
    // Those that are written anyway take as many as they can, the fullest first.
    plan.update.sort_by_key(|slice| Reverse(count(slice)));
    for slice in &mut plan.update {
        fill(slice, &mut wanted, most);
    }
    while !wanted.is_empty() {
        // Full slices are new ones; the rest goes where it leaves the least room.
        let room_left = |slice: &Arc<EndpointSlice>| most.checked_sub(wanted.len() + count(slice));
        let fitting = unchanged.iter().enumerate().filter_map(|(at, slice)| Some((room_left(slice)?, at)));
        let mut slice = match fitting.min() {
            Some((_, at)) if wanted.len() < most => {
                let slice = unchanged.remove(at);
                with_endpoints(&slice, slice.endpoints.clone().unwrap_or_default(), labels.clone())
            }
            _ => new_slice(),
        };
        fill(&mut slice, &mut wanted, most);
        match slice.metadata.name {
            Some(_) => plan.update.push(slice),
            None => plan.create.push(slice),
        }
    }
    plan
}

fn with_endpoints(
    slice: &EndpointSlice,
    endpoints: Vec<Endpoint>,
    labels: Option<BTreeMap<String, String>>,
) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.endpoints = Some(endpoints);
    slice.metadata.labels = labels;
    slice
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn fill(slice: &mut EndpointSlice, wanted: &mut BTreeMap<Identity, Endpoint>, most: usize) {
    let endpoints = slice.endpoints.get_or_insert_default();
    while endpoints.len() < most
        && let Some((_, endpoint)) = wanted.pop_first()
    {
        endpoints.push(endpoint);
    }
}

impl Plan {
    fn append(&mut self, other: Self) {
        self.create.extend(other.create);
        self.update.extend(other.update);
        self.delete.extend(other.delete);
    }

    /// One write instead of two: a slice that would be deleted becomes one that would be made.
    fn reuse_deleted(&mut self) {
        while !self.delete.is_empty()
            && let Some(new) = self.create.pop()
        {
            let mut slice = EndpointSlice::clone(&self.delete.remove(0));
            slice.metadata.labels = new.metadata.labels;
            self.update.push(EndpointSlice { metadata: slice.metadata, ..new });
        }
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
