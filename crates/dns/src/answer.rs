//! Records for a question about the cluster's domain, by the Kubernetes DNS specification 1.1.0.

use std::net::Ipv4Addr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tug_api::ObjectKey;
use tug_resolver::{Answer, Here};

use crate::names::{self, Asked};
use crate::zone::{Port, Service, Zone};

/// CoreDNS's default for cluster records.
const TTL: u32 = 5;
const VERSION_TTL: u32 = 28800;
const VERSION: &str = "1.1.0";
/// What CoreDNS gives SRV records of one name in all.
const SRV_WEIGHT: u16 = 100;

/// One thing that a Service's name stands for.
struct Place {
    address: Ipv4Addr,
    port: Option<u16>,
    /// The name that an SRV record gives.
    target: Vec<String>,
}

impl Zone {
    pub(crate) fn answer(&self, query: &Query) -> Answer {
        let name = query.name().to_lowercase();
        let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        if let Some(address) = names::reverse_address(&labels) {
            return self.reverse(query, address);
        }
        if !self.origin.zone_of(&name) {
            return Answer::Elsewhere;
        }
        if !self.is_open {
            return Answer::Unknown;
        }
        let own = labels.len() - usize::from(self.origin.num_labels());
        let kind = query.query_type();
        match names::parse(&labels[..own]) {
            Asked::Nothing => self.no_such_name(),
            Asked::Branch => self.found(vec![]),
            Asked::Apex => self.found(match kind {
                RecordType::SOA => vec![self.soa()],
                RecordType::NS => vec![self.record(&self.origin, RData::NS(NS(self.server_name())))],
                _ => vec![],
            }),
            Asked::Server => self.found(vec![]),
            Asked::Version => self.found(match kind {
                RecordType::TXT => {
                    let text = RData::TXT(TXT::new(vec![VERSION.into()]));
                    vec![Record::from_rdata(query.name().clone(), VERSION_TTL, text)]
                }
                _ => vec![],
            }),
            Asked::Namespace(namespace) if self.has_namespace(namespace) => self.found(vec![]),
            Asked::Namespace(_) => self.no_such_name(),
            // Whether there is such a pod isn't looked at: kubeadm's `pods insecure`.
            Asked::Pod { namespace, address } if self.has_namespace(namespace) => self.found(match kind {
                RecordType::A => vec![self.record(query.name(), RData::A(A(address)))],
                _ => vec![],
            }),
            Asked::Pod { .. } => self.no_such_name(),
            Asked::Service { namespace, name, endpoint, port } => {
                let key = ObjectKey::new(namespace, name);
                match self.get(&key) {
                    None => self.no_such_name(),
                    Some(Service::Alias(target)) if endpoint.is_none() && port.is_none() => {
                        let record = Box::new(self.record(query.name(), RData::CNAME(CNAME(target.clone()))));
                        Answer::Alias { record, target: target.clone() }
                    }
                    Some(Service::Alias(_)) => self.no_such_name(),
                    Some(service) => self.places(query, &self.stands_for(&key, service, endpoint, port)),
                }
            }
        }
    }

    fn stands_for(
        &self,
        key: &ObjectKey,
        service: &Service,
        endpoint: Option<&str>,
        port: Option<(&str, &str)>,
    ) -> Vec<Place> {
        let asked =
            |found: &&Port| port.is_none_or(|(name, protocol)| found.name == name && found.protocol == protocol);
        let target = |hostname: Option<&str>| -> Vec<String> {
            let own = hostname.map(str::to_owned).into_iter();
            own.chain([key.name.clone(), key.namespace.clone(), "svc".into()]).collect()
        };
        if let (Service::Addresses { addresses, ports }, None) = (service, endpoint) {
            return ports
                .iter()
                .filter(asked)
                .flat_map(|port| addresses.iter().map(|address| (*address, Some(port.number))))
                .map(|(address, port)| Place { address, port, target: target(None) })
                .collect();
        }
        let mut found = Vec::new();
        for (ports, ready) in self.endpoints(key) {
            if endpoint.is_some_and(|hostname| ready.hostname != hostname) {
                continue;
            }
            let place = |port| Place { address: ready.address, port, target: target(Some(&ready.hostname)) };
            // A headless Service may have no ports: its endpoints have addresses all the same.
            if ports.is_empty() && port.is_none() {
                found.push(place(None));
            }
            found.extend(ports.iter().filter(asked).map(|port| place(Some(port.number))));
        }
        found
    }

    fn places(&self, query: &Query, places: &[Place]) -> Answer {
        if places.is_empty() {
            return self.no_such_name();
        }
        let mut addresses: Vec<Ipv4Addr> = Vec::new();
        for place in places {
            if !addresses.contains(&place.address) {
                addresses.push(place.address);
            }
        }
        // Clients that only use the first address are spread by whom it is.
        let len = addresses.len();
        addresses.rotate_left(usize::from(rand::random::<u16>()) % len);
        match query.query_type() {
            RecordType::A => self
                .found(addresses.into_iter().map(|address| self.record(query.name(), RData::A(A(address)))).collect()),
            RecordType::SRV => self.srv(query, places),
            _ => self.found(vec![]),
        }
    }

    fn srv(&self, query: &Query, places: &[Place]) -> Answer {
        let mut here = Here::default();
        let with_port: Vec<(&Place, u16)> = places.iter().filter_map(|place| Some((place, place.port?))).collect();
        let weight = (SRV_WEIGHT / u16::try_from(with_port.len().max(1)).unwrap_or(SRV_WEIGHT)).max(1);
        for (place, port) in with_port {
            let Some(target) = self.below(&place.target) else {
                continue;
            };
            let record = self.record(query.name(), RData::SRV(SRV::new(0, weight, port, target.clone())));
            if here.answers.contains(&record) {
                continue;
            }
            here.answers.push(record);
            let address = self.record(&target, RData::A(A(place.address)));
            if !here.additionals.contains(&address) {
                here.additionals.push(address);
            }
        }
        if here.answers.is_empty() {
            return self.found(vec![]);
        }
        Answer::Here(here)
    }

    /// A Service's own address, else an endpoint's; an address that the cluster doesn't know is an upstream's to answer.
    fn reverse(&self, query: &Query, address: Ipv4Addr) -> Answer {
        if !self.is_open {
            return Answer::Unknown;
        }
        let mut targets: Vec<Name> = self
            .services_at(address)
            .filter_map(|key| self.below(&[key.name.clone(), key.namespace.clone(), "svc".into()]))
            .collect();
        if targets.is_empty() {
            for key in self.services_with_endpoint(address) {
                let endpoints = self.endpoints(key).filter(|(_, endpoint)| endpoint.address == address);
                targets.extend(endpoints.filter_map(|(_, endpoint)| {
                    self.below(&[endpoint.hostname.clone(), key.name.clone(), key.namespace.clone(), "svc".into()])
                }));
            }
            targets.dedup();
        }
        if targets.is_empty() {
            return Answer::Elsewhere;
        }
        match query.query_type() {
            RecordType::PTR => self
                .found(targets.into_iter().map(|target| self.record(query.name(), RData::PTR(PTR(target)))).collect()),
            _ => self.found(vec![]),
        }
    }

    fn found(&self, answers: Vec<Record>) -> Answer {
        let authorities = if answers.is_empty() { vec![self.soa()] } else { vec![] };
        Answer::Here(Here { answers, authorities, ..Here::default() })
    }

    fn no_such_name(&self) -> Answer {
        Answer::Here(Here { code: ResponseCode::NXDomain, authorities: vec![self.soa()], ..Here::default() })
    }

    fn soa(&self) -> Record {
        let mail = self.below(&["hostmaster".into()]).unwrap_or_else(|| self.origin.clone());
        let soa = SOA::new(self.server_name(), mail, self.serial, 7200, 1800, 86400, TTL);
        self.record(&self.origin, RData::SOA(soa))
    }

    fn server_name(&self) -> Name {
        self.below(&["ns".into(), "dns".into()]).unwrap_or_else(|| self.origin.clone())
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), TTL, data)
    }

    /// `labels` before the domain; `None` when that is no name (too long).
    fn below(&self, labels: &[String]) -> Option<Name> {
        let own = Name::from_labels(labels.iter().map(String::as_bytes)).ok()?;
        own.append_domain(&self.origin).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests;
