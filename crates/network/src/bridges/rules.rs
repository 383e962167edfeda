//! The bridge networks' nftables rules, a table for IPv4 and, where a network has IPv6, one for it: who reaches whom,
//! masquerade, and published ports.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{Network, Publication, PublishedPort, State};
use crate::conntrack;
use crate::error::Result;
use crate::nft::{
    self, Base, ChainType, Element, Family, Field, Hook, Key, MapKind, PRIORITY_DSTNAT, PRIORITY_RAW, PRIORITY_SRCNAT,
    Rule, Set, Table, Transaction,
};
use crate::pods::Protocol;

/// `filter`, as `nft` names it.
const PRIORITY_FILTER: i32 = 0;

pub(super) struct Rules {
    ipv4: OfFamily,
    ipv6: OfFamily,
}

/// The table of one address family, and the shapes of its sets.
struct OfFamily {
    table: Table,
    /// Ports of all of the host's addresses, and of one.
    ports: Set,
    address_ports: Set,
    /// All bridges, and those of internal networks.
    bridges: Set,
    internal: Set,
    /// From a bridge to itself, where containers may reach each other.
    within: Set,
}

impl Rules {
    pub(super) fn new(table: &str) -> Self {
        let ipv4 = OfFamily::new(Table::ipv4(table), Field::DestinationAddress, MapKind::Endpoint);
        let ipv6 = OfFamily::new(Table::ipv6(table), Field::DestinationAddress6, MapKind::Endpoint6);
        Self { ipv4, ipv6 }
    }

    /// Puts the whole tables anew, each in one step: no packet meets half of it, and connections stay as they are.
    pub(super) fn replace(&self, state: &State) -> Result<()> {
        self.ipv4.replace(state)?;
        let has_ipv6 = state.networks.values().any(|network| self.ipv6.subnets(network).next().is_some());
        if has_ipv6 { self.ipv6.replace(state) } else { self.ipv6.remove() }
    }

    /// Puts a container's ports in place of those it had, in one step.
    pub(super) fn change(&self, before: Option<&Publication>, after: &Publication) -> Result<()> {
        let mut change = Transaction::new();
        for family in [&self.ipv4, &self.ipv6] {
            for (set, elements) in before.map(|before| family.elements(before)).into_iter().flatten() {
                let keys: Vec<Element> = elements.into_iter().map(|element| Element::key(element.key)).collect();
                change.delete_elements(&family.table, set, &keys);
            }
            for (set, elements) in family.elements(after) {
                change.add_elements(&family.table, set, &elements);
            }
        }
        change.commit()?;
        forget_flows(before.map(|before| before.ports.as_slice()).unwrap_or_default(), &after.ports);
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        self.ipv4.remove().and(self.ipv6.remove())
    }
}

impl OfFamily {
    fn new(table: Table, destination: Field, kind: MapKind) -> Self {
        Self {
            table,
            ports: Set::map("ports", &[Field::Protocol, Field::DestinationPort], kind),
            address_ports: Set::map("address-ports", &[destination, Field::Protocol, Field::DestinationPort], kind),
            bridges: Set::new("bridges", &[Field::OutputLink]),
            internal: Set::new("internal", &[Field::OutputLink]),
            within: Set::new("within", &[Field::InputLink, Field::OutputLink]),
        }
    }

    fn replace(&self, state: &State) -> Result<()> {
        let table = &self.table;
        let mut change = Transaction::refill(table)?;
        for set in [&self.ports, &self.address_ports, &self.bridges, &self.internal, &self.within] {
            change.add_set(table, set);
        }
        self.put_networks(&mut change, state);
        self.put_ports(&mut change, state);
        change.add_chain(table, "published");
        change.add_rule(table, "published", Rule::new().translate_by(&self.address_ports));
        change.add_rule(table, "published", Rule::new().destination_local().translate_by(&self.ports));
        for (name, base, rules) in self.base_chains(state) {
            change.add_base_chain(table, name, base);
            for rule in rules {
                change.add_rule(table, name, rule);
            }
        }
        change.commit()
    }

    fn base_chains(&self, state: &State) -> [(&'static str, Base, Vec<Rule>); 5] {
        let base = |chain_type, hook, priority| Base { chain_type, hook, priority };
        let nat = |hook, priority| base(ChainType::Nat, hook, priority);
        [
            (
                "foreign-loopback",
                base(ChainType::Filter, Hook::Prerouting, PRIORITY_RAW),
                vec![Rule::new().in_set(&[Field::InputLink], "bridges").destination_in(self.loopback()).drop()],
            ),
            (
                "prerouting",
                nat(Hook::Prerouting, PRIORITY_DSTNAT),
                // What comes in to the loopback's addresses is forged: a port published there is for the host alone.
                vec![Rule::new().destination_in(self.loopback()).accept(), Rule::new().jump("published")],
            ),
            ("output", nat(Hook::Output, PRIORITY_DSTNAT), self.output()),
            ("forward", base(ChainType::Filter, Hook::Forward, PRIORITY_FILTER), self.forward()),
            ("postrouting", nat(Hook::Postrouting, PRIORITY_SRCNAT), self.postrouting(state)),
        ]
    }

    fn output(&self) -> Vec<Rule> {
        let published = Rule::new().jump("published");
        if self.is_ipv4() {
            return vec![published];
        }
        // Nothing of `::1` may leave the host: what it sent to a container would be lost.
        vec![Rule::new().destination_in(self.loopback()).accept(), published]
    }

    fn forward(&self) -> Vec<Rule> {
        let (input, output) = ([Field::InputLink], [Field::OutputLink]);
        vec![
            Rule::new().in_set(&[Field::InputLink, Field::OutputLink], "within").accept(),
            Rule::new().in_set(&input, "internal").drop(),
            Rule::new().in_set(&output, "internal").drop(),
            Rule::new().in_set(&output, "bridges").established().accept(),
            Rule::new().in_set(&output, "bridges").translated().accept(),
            Rule::new().in_set(&output, "bridges").drop(),
        ]
    }

    fn postrouting(&self, state: &State) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.is_ipv4() {
            rules.push(Rule::new().source_in(self.loopback()).in_set(&[Field::OutputLink], "bridges").masquerade());
        }
        for network in state.networks.values() {
            for net in self.subnets(network) {
                // Answers between neighbours would go past this host, which has to translate them back.
                rules.push(Rule::new().source_in(net).output(&network.bridge).translated().masquerade());
                if network.masquerade && !network.internal {
                    rules.push(Rule::new().source_in(net).not_output(&network.bridge).masquerade());
                }
            }
        }
        rules
    }

    fn put_networks(&self, change: &mut Transaction, state: &State) {
        let links = |chosen: fn(&Network) -> bool| {
            let chosen = state.networks.values().filter(|network| chosen(network));
            chosen.map(|network| network.bridge.as_str()).collect::<Vec<_>>()
        };
        let one = |link: &str| Element::key(Key::new().link(link));
        let bridges: Vec<_> = links(|_| true).into_iter().map(one).collect();
        let internal: Vec<_> = links(|network| network.internal).into_iter().map(one).collect();
        let within = links(|network| network.icc).into_iter();
        let within: Vec<_> = within.map(|link| Element::key(Key::new().link(link).link(link))).collect();
        change.add_elements(&self.table, &self.bridges, &bridges);
        change.add_elements(&self.table, &self.internal, &internal);
        change.add_elements(&self.table, &self.within, &within);
    }

    fn put_ports(&self, change: &mut Transaction, state: &State) {
        let mut taken = HashSet::new();
        for publication in state.publications.values() {
            for (set, elements) in self.elements(publication) {
                let (free, held): (Vec<_>, Vec<_>) =
                    elements.into_iter().partition(|element| taken.insert((set.name.clone(), element.key.clone())));
                change.add_elements(&self.table, set, &free);
                for element in held {
                    tracing::warn!(id = publication.id, set = set.name, ?element, "a port is another container's");
                }
            }
        }
    }

    /// What the maps hold for one container.
    fn elements(&self, publication: &Publication) -> [(&Set, Vec<Element>); 2] {
        let (mut any, mut one) = (Vec::new(), Vec::new());
        for port in &publication.ports {
            let PublishedPort { protocol, host_ip, host_port, target, container_port } = *port;
            if !self.has(host_ip) || !self.has(target) || host_ip == IpAddr::from(Ipv6Addr::LOCALHOST) {
                continue;
            }
            let key = if host_ip.is_unspecified() { Key::new() } else { Key::new().address(host_ip) };
            let element = Element::endpoint(key.protocol(protocol).port(host_port), target, container_port);
            if host_ip.is_unspecified() { any.push(element) } else { one.push(element) }
        }
        [(&self.ports, any), (&self.address_ports, one)]
    }

    fn subnets(&self, network: &Network) -> impl Iterator<Item = IpNet> {
        network.subnets.iter().map(|subnet| subnet.net).filter(|net| self.has(net.addr()))
    }

    fn has(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
    }

    fn is_ipv4(&self) -> bool {
        self.table.family == Family::Ipv4
    }

    fn loopback(&self) -> IpNet {
        if self.is_ipv4() {
            Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 bits are a prefix").into()
        } else {
            IpAddr::from(Ipv6Addr::LOCALHOST).into()
        }
    }

    /// Whether or not the table is there, or the kernel has its family.
    fn remove(&self) -> Result<()> {
        if nft::tables()?.contains(&self.table) { nft::delete_table(&self.table) } else { Ok(()) }
    }
}

/// A client that keeps sending would go on being translated to where it was, or to nobody.
fn forget_flows(before: &[PublishedPort], after: &[PublishedPort]) {
    let is_udp = |port: &&PublishedPort| port.protocol == Protocol::Udp;
    let gone: HashSet<_> = before.iter().filter(is_udp).map(|port| (port.target, port.container_port)).collect();
    let opened: HashSet<u16> = after.iter().filter(is_udp).map(|port| port.host_port).collect();
    if gone.is_empty() && opened.is_empty() {
        return;
    }
    conntrack::try_forget_udp(|flow| {
        let translated = flow.destination != flow.reply_source;
        if translated { gone.contains(&flow.reply_source) } else { opened.contains(&flow.destination.1) }
    });
}
