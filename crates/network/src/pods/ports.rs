//! The pod network's nftables rules: masquerade of what leaves the cluster, host ports, and a pod's way back to itself.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use crate::conntrack;
use crate::error::Result;
use crate::nft::{
    Base, ChainType, Element, Field, Hook, Key, MapKind, PRIORITY_DSTNAT, PRIORITY_RAW, PRIORITY_SRCNAT, Rule, Set,
    Table, Transaction, delete_table,
};
use crate::pods::{Attachment, Config, HostPort, Protocol};

const ANY_ADDRESS: [Field; 2] = [Field::Protocol, Field::DestinationPort];
const ONE_ADDRESS: [Field; 3] = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
const TO_ITSELF: [Field; 2] = [Field::SourceAddress, Field::DestinationAddress];

pub(super) struct Rules {
    table: Table,
    bridge: String,
    node_cidr: Ipv4Net,
    cluster_cidr: Ipv4Net,
    any_address: Set,
    one_address: Set,
    to_itself: Set,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            table: Table::ipv4(&config.bridge),
            bridge: config.bridge.clone(),
            node_cidr: config.node_cidr,
            cluster_cidr: config.cluster_cidr,
            any_address: Set::map("host-ports", &ANY_ADDRESS, MapKind::Endpoint),
            one_address: Set::map("address-ports", &ONE_ADDRESS, MapKind::Endpoint),
            to_itself: Set::new("to-itself", &TO_ITSELF),
        }
    }

    /// Puts the whole table anew, in one step: no packet meets half of it, and connections that were translated stay so.
    pub(super) fn replace<'a>(&self, leases: impl Iterator<Item = (Ipv4Addr, &'a Attachment)>) -> Result<()> {
        let loopback = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 bits are a prefix");
        let (table, bridge) = (&self.table, self.bridge.as_str());
        let nat = |hook, priority| Base { chain_type: ChainType::Nat, hook, priority };
        let raw = Base { chain_type: ChainType::Filter, hook: Hook::Prerouting, priority: PRIORITY_RAW };

        let mut change = Transaction::refill(table)?;
        change.add_set(table, &self.any_address).add_set(table, &self.one_address).add_set(table, &self.to_itself);
        change.add_chain(table, "host-ports");
        change.add_rule(table, "host-ports", Rule::new().translate_by(&self.one_address));
        let any = Rule::new().destination_local().translate_by(&self.any_address);
        change.add_rule(table, "host-ports", any);
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            change.add_base_chain(table, chain, nat(hook, PRIORITY_DSTNAT));
            change.add_rule(table, chain, Rule::new().jump("host-ports"));
        }
        change.add_base_chain(table, "postrouting", nat(Hook::Postrouting, PRIORITY_SRCNAT));
        let leaving = Rule::new().source_in(self.node_cidr).destination_not_in(self.cluster_cidr).not_output(bridge);
        for rule in [
            leaving.masquerade(),
            Rule::new().in_set(&TO_ITSELF, &self.to_itself.name).masquerade(),
            Rule::new().source_in(loopback).output(bridge).masquerade(),
        ] {
            change.add_rule(table, "postrouting", rule);
        }
        change.add_base_chain(table, "foreign-loopback", raw);
        change.add_rule(table, "foreign-loopback", Rule::new().input(bridge).destination_in(loopback).drop());
        let mut taken = HashSet::new();
        for (address, attachment) in leases {
            for (set, elements) in self.elements(address, attachment) {
                let (free, held): (Vec<_>, Vec<_>) =
                    elements.into_iter().partition(|element| taken.insert((set.name.clone(), element.key.clone())));
                change.add_elements(table, set, &free);
                // A crash between a lease and the refusal of its ports leaves such a lease.
                for element in held {
                    tracing::warn!(id = attachment.id, set = set.name, ?element, "a host port is another sandbox's");
                }
            }
        }
        change.commit()
    }

    pub(super) fn add(&self, address: Ipv4Addr, attachment: &Attachment) -> Result<()> {
        if attachment.ports.is_empty() {
            return Ok(());
        }
        let mut change = Transaction::new();
        for (set, elements) in self.elements(address, attachment) {
            change.add_elements(&self.table, set, &elements);
        }
        change.commit()?;
        // A client that kept sending before the pod was there has a flow that was translated to nobody.
        let ports: Vec<u16> = udp_ports(attachment).collect();
        if !ports.is_empty() {
            conntrack::try_forget_udp(|flow| {
                ports.contains(&flow.destination.1) && flow.destination == flow.reply_source
            });
        }
        Ok(())
    }

    pub(super) fn delete(&self, address: Ipv4Addr, attachment: &Attachment) -> Result<()> {
        if attachment.ports.is_empty() {
            return Ok(());
        }
        let mut change = Transaction::new();
        for (set, elements) in self.elements(address, attachment) {
            let keys: Vec<Element> = elements.into_iter().map(|element| Element::key(element.key)).collect();
            change.delete_elements(&self.table, set, &keys);
        }
        change.commit()?;
        if udp_ports(attachment).next().is_some() {
            conntrack::try_forget_udp(|flow| flow.reply_source.0 == address);
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        delete_table(&self.table)
    }

    /// What the sets hold for one sandbox.
    fn elements(&self, address: Ipv4Addr, attachment: &Attachment) -> [(&Set, Vec<Element>); 3] {
        let (mut any, mut one, mut itself) = (Vec::new(), Vec::new(), Vec::new());
        for port in &attachment.ports {
            let HostPort { protocol, host_ip, host_port, container_port } = *port;
            match host_ip {
                Some(IpAddr::V4(host)) if !host.is_unspecified() => {
                    let key = Key::new().address(host).protocol(protocol).port(host_port);
                    one.push(Element::endpoint(key, address, container_port));
                }
                // Pods have no IPv6 addresses to send these to.
                Some(IpAddr::V6(host)) if !host.is_unspecified() => {}
                _ => {
                    let key = Key::new().protocol(protocol).port(host_port);
                    any.push(Element::endpoint(key, address, container_port));
                }
            }
        }
        if !attachment.ports.is_empty() {
            itself.push(Element::key(Key::new().address(address).address(address)));
        }
        [(&self.any_address, any), (&self.one_address, one), (&self.to_itself, itself)]
    }
}

fn udp_ports(attachment: &Attachment) -> impl Iterator<Item = u16> {
    attachment.ports.iter().filter(|port| port.protocol == Protocol::Udp).map(|port| port.host_port)
}
