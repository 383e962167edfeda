//! The proxy's nftables: table `ip tug-proxy`, brought from what it holds to what it should hold in one transaction.
//!
//! A packet meets one map lookup, whatever the number of Services: address, protocol and port give the chain of the
//! Service's port, whose last rule picks an endpoint at random.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use tug_api::ObjectKey;
use tug_network::conntrack::{self, End};
use tug_network::links;
use tug_network::nft::{
    self, Base, ChainType, Element, Field, Hook, Key, MapKind, PRIORITY_DSTNAT, PRIORITY_SRCNAT, Rule, Set, Table,
    Transaction,
};
use tug_network::pods::Protocol;
use tug_network::{Error, Result};

use crate::Config;
use crate::services::{External, PortRules};

const TABLE: &str = "tug-proxy";
/// Upstream's mark for packets that leave masqueraded.
const MASQUERADE: u32 = 0x4000;
/// Sources that a Service with session affinity remembers at most.
const STICKY_SOURCES: u32 = 65536;
const BY_ADDRESS: [Field; 3] = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
const BY_PORT: [Field; 2] = [Field::Protocol, Field::DestinationPort];
const TO_ITSELF: [Field; 2] = [Field::SourceAddress, Field::DestinationAddress];

pub(crate) struct Kernel {
    config: Config,
    table: Table,
    service_ips: Set,
    node_ports: Set,
    refused_ips: Set,
    to_itself: Set,
    held: BTreeMap<ObjectKey, Vec<PortRules>>,
    /// How many ports have an endpoint at the address: those get an element in `to_itself`.
    addresses: HashMap<Ipv4Addr, usize>,
    closed: bool,
}

impl Kernel {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            table: Table::ipv4(TABLE),
            service_ips: Set::map("service-ips", &BY_ADDRESS, MapKind::Verdict),
            node_ports: Set::map("node-ports", &BY_PORT, MapKind::Verdict),
            refused_ips: Set::map("refused-ips", &BY_ADDRESS, MapKind::Verdict),
            to_itself: Set::new("to-itself", &TO_ITSELF),
            held: BTreeMap::new(),
            addresses: HashMap::new(),
            closed: false,
        }
    }

    /// Removes the table and the route to Services, and keeps them removed.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.closed = true;
        nft::delete_table(&self.table)?;
        match &self.config.bridge {
            Some(bridge) => links::delete_route(self.config.service_cidr, bridge),
            None => Ok(()),
        }
    }

    /// Puts all Services' rules anew, in one step.
    pub(crate) fn replace(&mut self, wanted: BTreeMap<ObjectKey, Vec<PortRules>>) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut change = Transaction::refill(&self.table)?;
        self.put_base(&mut change);
        let mut taken = HashSet::new();
        let mut addresses = HashMap::new();
        for port in wanted.values().flatten() {
            self.put_port(&mut change, port);
            for (set, elements) in self.elements(port) {
                // Two Services may claim one external address and port; the first by name has it.
                let free: Vec<Element> = elements
                    .into_iter()
                    .filter(|element| taken.insert((set.name.clone(), element.key.clone())))
                    .collect();
                change.add_elements(&self.table, set, &free);
            }
            for address in addresses_of(port) {
                *addresses.entry(address).or_insert(0) += 1;
            }
        }
        let itself: Vec<Element> = addresses.keys().map(|address| to_itself(*address)).collect();
        change.add_elements(&self.table, &self.to_itself, &itself);
        change.commit()?;
        let before = std::mem::replace(&mut self.held, wanted);
        self.addresses = addresses;
        for port in self.held.values().flatten().filter(|port| port.affinity.is_some()) {
            self.unstick(port)?;
        }
        // After a restart nothing is known of before: flows to endpoints that went meanwhile time out by themselves.
        forget_flows(before.values().flatten(), self.held.values().flatten());
        Ok(())
    }

    /// Changes the rules of the Services named; those without rules go.
    pub(crate) fn change(&mut self, wanted: BTreeMap<ObjectKey, Vec<PortRules>>) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut change = Transaction::new();
        let mut counts: HashMap<Ipv4Addr, isize> = HashMap::new();
        let (mut stale, mut fresh) = (Vec::new(), Vec::new());
        // Elements go before chains they lead to, and all that goes goes before what comes: a port of one Service may
        // become another's in the same change.
        for (key, ports) in &wanted {
            for old in self.held.get(key).into_iter().flatten() {
                let new = ports.iter().find(|new| new.name == old.name);
                if new != Some(old) {
                    self.take_elements(&mut change, old, new.filter(|new| same_shape(old, new)));
                    addresses_of(old).for_each(|address| *counts.entry(address).or_default() -= 1);
                    stale.push((old, new));
                }
            }
        }
        for (old, _) in stale.iter().filter(|(old, new)| !new.is_some_and(|new| same_shape(old, new))) {
            self.take_port(&mut change, old);
        }
        for (key, ports) in &wanted {
            for new in ports {
                let old = self.held.get(key).into_iter().flatten().find(|old| old.name == new.name);
                if old != Some(new) {
                    self.put_port(&mut change, new);
                    self.add_elements(&mut change, old.filter(|old| same_shape(old, new)), new);
                    addresses_of(new).for_each(|address| *counts.entry(address).or_default() += 1);
                    fresh.push(new);
                }
            }
        }
        self.count_addresses(&mut change, &counts);
        if change.is_empty() {
            return Ok(());
        }
        change.commit()?;
        for new in fresh.iter().filter(|new| new.affinity.is_some()) {
            self.unstick(new)?;
        }
        forget_flows(stale.iter().map(|(old, _)| *old), fresh.iter().copied());
        for (address, by) in counts {
            let count = self.addresses.entry(address).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        for (key, ports) in wanted {
            if ports.is_empty() {
                self.held.remove(&key);
            } else {
                self.held.insert(key, ports);
            }
        }
        Ok(())
    }

    /// Chains and maps that don't depend on Services.
    fn put_base(&self, change: &mut Transaction) {
        let table = &self.table;
        for set in [&self.service_ips, &self.node_ports, &self.refused_ips, &self.to_itself] {
            change.add_set(table, set);
        }
        change.add_chain(table, "refuse").add_rule(table, "refuse", Rule::new().count().reject());

        change.add_chain(table, "services");
        change.add_rule(table, "services", Rule::new().verdict_of(&BY_ADDRESS, &self.service_ips.name));
        let node_ports = Rule::new().destination_local().verdict_of(&BY_PORT, &self.node_ports.name);
        change.add_rule(table, "services", node_ports);
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            let base = Base { chain_type: ChainType::Nat, hook, priority: PRIORITY_DSTNAT };
            change.add_base_chain(table, chain, base).add_rule(table, chain, Rule::new().jump("services"));
        }

        let base = Base { chain_type: ChainType::Nat, hook: Hook::Postrouting, priority: PRIORITY_SRCNAT };
        change.add_base_chain(table, "postrouting", base);
        let marked = Rule::new().marked(MASQUERADE).unmark(MASQUERADE).masquerade();
        change.add_rule(table, "postrouting", marked);
        let itself = Rule::new().translated().in_set(&TO_ITSELF, &self.to_itself.name).masquerade();
        change.add_rule(table, "postrouting", itself);

        // After translation: who still goes to a Service's address goes to one that nobody owns or that has no endpoint.
        change.add_chain(table, "unserved");
        change.add_rule(table, "unserved", Rule::new().verdict_of(&BY_ADDRESS, &self.refused_ips.name));
        let unowned = Rule::new().destination_in(self.config.service_cidr).destination_not_local().goto("refuse");
        change.add_rule(table, "unserved", unowned);
        let hooks = [("filter-input", Hook::Input), ("filter-forward", Hook::Forward), ("filter-output", Hook::Output)];
        for (chain, hook) in hooks {
            let base = Base { chain_type: ChainType::Filter, hook, priority: PRIORITY_DSTNAT + 10 };
            change.add_base_chain(table, chain, base);
            change.add_rule(table, chain, Rule::new().new_connection().jump("unserved"));
        }
    }

    /// Writes the chains of a port anew. What is in them depends on nothing but the port.
    fn put_port(&self, change: &mut Transaction, port: &PortRules) {
        let table = &self.table;
        let (internal, external) = chains(port);
        let cluster = self.config.cluster_cidr;
        if port.affinity.is_some() {
            change.add_set(table, &sticky(port));
        }
        change.add_chain(table, &internal).flush_chain(table, &internal);
        change.add_rule(table, &internal, Rule::new().source_not_in(cluster).mark(MASQUERADE));
        self.put_targets(change, port, &internal, &port.internal);

        change.add_chain(table, &external).flush_chain(table, &external);
        match &port.external {
            External::Cluster(all) => {
                change.add_rule(table, &external, Rule::new().mark(MASQUERADE));
                self.put_targets(change, port, &external, all);
            }
            External::Local { here, all } => {
                // Upstream: pods and the node itself get what the Service's own address would give them.
                let inside = format!("{external}/inside");
                change.add_chain(table, &inside).flush_chain(table, &inside);
                change.add_rule(table, &inside, Rule::new().source_not_in(cluster).mark(MASQUERADE));
                self.put_targets(change, port, &inside, all);
                change.add_rule(table, &external, Rule::new().source_in(cluster).goto(&inside));
                change.add_rule(table, &external, Rule::new().source_local().goto(&inside));
                self.put_targets(change, port, &external, here);
                // Upstream drops: a balancer in front then tries another node, and clients retry.
                change.add_rule(table, &external, Rule::new().drop());
            }
        }
    }

    fn put_targets(&self, change: &mut Transaction, port: &PortRules, chain: &str, targets: &[(Ipv4Addr, u16)]) {
        if targets.is_empty() {
            return;
        }
        let rule = Rule::new().protocol(port.protocol);
        if port.affinity.is_none() {
            change.add_rule(&self.table, chain, rule.translate_to(targets));
            return;
        }
        let sticky = sticky(port).name;
        change.add_rule(&self.table, chain, rule.clone().translate_as_before(&sticky));
        change.add_rule(&self.table, chain, rule.clone().translate_and_remember(targets, &sticky));
        // Where the map is full.
        change.add_rule(&self.table, chain, rule.translate_to(targets));
    }

    /// Deletes the chains of a port that nothing leads to any more.
    fn take_port(&self, change: &mut Transaction, port: &PortRules) {
        let (internal, external) = chains(port);
        let mut gone = vec![external.clone(), internal];
        if matches!(port.external, External::Local { .. }) {
            gone.push(format!("{external}/inside"));
        }
        for chain in &gone {
            change.flush_chain(&self.table, chain);
        }
        for chain in &gone {
            change.delete_chain(&self.table, chain);
        }
        if port.affinity.is_some() {
            change.delete_set(&self.table, &sticky(port).name);
        }
    }

    fn take_elements(&self, change: &mut Transaction, old: &PortRules, new: Option<&PortRules>) {
        let kept = new.map(|new| self.elements(new));
        for (index, (set, elements)) in self.elements(old).into_iter().enumerate() {
            let gone: Vec<Element> = elements
                .into_iter()
                .filter(|element| !kept.as_ref().is_some_and(|kept| kept[index].1.contains(element)))
                .map(|element| Element::key(element.key))
                .collect();
            change.delete_elements(&self.table, set, &gone);
        }
    }

    fn add_elements(&self, change: &mut Transaction, old: Option<&PortRules>, new: &PortRules) {
        let there = old.map(|old| self.elements(old));
        for (index, (set, elements)) in self.elements(new).into_iter().enumerate() {
            let come: Vec<Element> = elements
                .into_iter()
                .filter(|element| !there.as_ref().is_some_and(|there| there[index].1.contains(element)))
                .collect();
            change.add_elements(&self.table, set, &come);
        }
    }

    /// What leads to a port's chains. Without endpoints nothing does: the packet goes on to be refused.
    fn elements(&self, port: &PortRules) -> [(&Set, Vec<Element>); 3] {
        let (internal, external) = chains(port);
        let key = |address: &Ipv4Addr| Key::new().address(*address).protocol(port.protocol).port(port.port);
        let (mut by_address, mut by_port, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        if !port.internal.is_empty() {
            by_address.extend(port.cluster_ips.iter().map(|ip| Element::goto(key(ip), &internal)));
        }
        if port.external.all().is_empty() {
            refused.extend(port.external_ips.iter().map(|ip| Element::goto(key(ip), "refuse")));
        } else {
            by_address.extend(port.external_ips.iter().map(|ip| Element::goto(key(ip), &external)));
            let node_port = port.node_port.map(|number| Key::new().protocol(port.protocol).port(number));
            by_port.extend(node_port.map(|key| Element::goto(key, &external)));
        }
        [(&self.service_ips, by_address), (&self.node_ports, by_port), (&self.refused_ips, refused)]
    }

    fn count_addresses(&self, change: &mut Transaction, counts: &HashMap<Ipv4Addr, isize>) {
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for (address, by) in counts {
            let before = self.addresses.get(address).copied().unwrap_or_default();
            let after = before.saturating_add_signed(*by);
            match (before, after) {
                (0, 1..) => come.push(to_itself(*address)),
                (1.., 0) => gone.push(to_itself(*address)),
                _ => {}
            }
        }
        change.delete_elements(&self.table, &self.to_itself, &gone);
        change.add_elements(&self.table, &self.to_itself, &come);
    }

    /// Has a Service's sticky map forget endpoints that are gone. The rules that could add them are gone already.
    fn unstick(&self, port: &PortRules) -> Result<()> {
        let set = sticky(port);
        let valid: HashSet<Vec<u8>> = port
            .endpoints()
            .map(|(address, number)| Key::new().address(address).port(number).as_bytes().to_vec())
            .collect();
        let stale: Vec<Element> = nft::elements(&self.table, &set.name)?
            .into_iter()
            .filter(|(_, value)| !valid.contains(value))
            .filter_map(|(key, _)| Some(Element::key(Key::new().address(<[u8; 4]>::try_from(key).ok()?))))
            .collect();
        let mut change = Transaction::new();
        change.delete_elements(&self.table, &set, &stale);
        match change.commit() {
            // One of them timed out meanwhile. That all sources choose anew is better than one going nowhere.
            Err(error) if gone(&error) => {
                let mut change = Transaction::new();
                change.flush_set(&self.table, &set.name);
                change.commit()
            }
            other => other,
        }
    }
}

/// `ENOENT`.
fn gone(error: &Error) -> bool {
    error.errno() == Some(2)
}

/// Whether the two have chains and sets of the same names: one's can be rewritten as the other's.
fn same_shape(a: &PortRules, b: &PortRules) -> bool {
    a.affinity == b.affinity && std::mem::discriminant(&a.external) == std::mem::discriminant(&b.external)
}

/// Chains for clients within the cluster and outside of it.
fn chains(port: &PortRules) -> (String, String) {
    (format!("service/{}", port.name), format!("external/{}", port.name))
}

fn sticky(port: &PortRules) -> Set {
    Set::sticky(format!("sticky/{}", port.name), port.affinity.unwrap_or_default(), STICKY_SOURCES)
}

fn to_itself(address: Ipv4Addr) -> Element {
    Element::key(Key::new().address(address).address(address))
}

/// Each once.
fn addresses_of(port: &PortRules) -> impl Iterator<Item = Ipv4Addr> {
    let found: HashSet<Ipv4Addr> = port.endpoints().map(|(address, _)| address).collect();
    found.into_iter()
}

/// Forgets UDP flows to endpoints that are gone, and those that went to a node port before it had an endpoint.
fn forget_flows<'a>(before: impl Iterator<Item = &'a PortRules>, after: impl Iterator<Item = &'a PortRules>) {
    let is_udp = |port: &&PortRules| port.protocol == Protocol::Udp;
    let (before, after): (Vec<_>, Vec<_>) = (before.filter(is_udp).collect(), after.filter(is_udp).collect());
    let end = |(address, port): (Ipv4Addr, u16)| (IpAddr::from(address), port);
    let mut gone: HashSet<End> = before.iter().flat_map(|port| port.endpoints()).map(end).collect();
    after.iter().flat_map(|port| port.endpoints()).for_each(|endpoint| {
        gone.remove(&end(endpoint));
    });
    let opened: HashSet<u16> = after.iter().filter_map(|port| port.node_port).collect();
    if gone.is_empty() && opened.is_empty() {
        return;
    }
    conntrack::try_forget_udp(|flow| {
        let translated = flow.destination != flow.reply_source;
        if translated { gone.contains(&flow.reply_source) } else { opened.contains(&flow.destination.1) }
    });
}
