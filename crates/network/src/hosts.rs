//! What machines need of the host they run on: their links accepted where other firewalls drop, their subnet
//! masqueraded, and ports of the host's loopback that lead into them. Each function may be called again and has its undo.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::Result;
use crate::nft::{
    self, Base, ChainType, Element, Family, Field, Hook, Key, MapKind, PRIORITY_DSTNAT, PRIORITY_RAW, PRIORITY_SRCNAT,
    Rule, Set, Table, Transaction,
};
use crate::pods::Protocol;
use crate::{links, sysctl};

/// Hooks' numbers in IP families.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

/// The host's side of the bridge that machines hang on: nftables table `ip BRIDGE`.
#[derive(Clone, Debug)]
pub struct MachineBridge {
    /// `tug0`.
    pub bridge: String,
    /// The bridge's address and the machines' subnet: `172.30.0.1/16`.
    pub address: Ipv4Net,
}

impl MachineBridge {
    fn table(&self) -> Table {
        Table::ipv4(&self.bridge)
    }

    fn forwards(&self) -> Set {
        Set::map("loopback-ports", &[Field::Protocol, Field::DestinationPort], MapKind::Endpoint)
    }

    /// Makes the bridge, lets the host route and masquerade for it, and has other firewalls accept it. Forwarded
    /// loopback ports stay as they are.
    ///
    /// # Errors
    /// If the kernel lacks bridges or nftables, or the caller lacks `CAP_NET_ADMIN`.
    pub fn ensure(&self, mtu: u32) -> Result<()> {
        let bridge = self.bridge.as_str();
        links::ensure_bridge(bridge, self.address, mtu)?;
        links::forward_on(bridge)?;
        sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        self.put_rules()?;
        accept_links(&[bridge])
    }

    /// Removes the bridge and all that was made for it.
    ///
    /// # Errors
    /// The first thing that couldn't be removed.
    pub fn remove(&self) -> Result<()> {
        withdraw_links(&[&self.bridge])?;
        nft::delete_table(&self.table())?;
        links::delete(&self.bridge)
    }

    fn put_rules(&self) -> Result<()> {
        let (table, bridge, forwards) = (self.table(), self.bridge.as_str(), self.forwards());
        let loopback = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 bits are a prefix");
        let subnet = self.address.trunc();
        let base = |chain_type, hook, priority| Base { chain_type, hook, priority };

        let mut change = Transaction::new();
        change.add_table(&table).add_set(&table, &forwards);
        let to_machine = Rule::new().destination_in(Ipv4Net::from(Ipv4Addr::LOCALHOST)).translate_by(&forwards);
        let chains = [
            ("output", base(ChainType::Nat, Hook::Output, PRIORITY_DSTNAT), vec![to_machine]),
            (
                "postrouting",
                base(ChainType::Nat, Hook::Postrouting, PRIORITY_SRCNAT),
                vec![
                    Rule::new().source_in(loopback).output(bridge).masquerade(),
                    Rule::new().source_in(subnet).not_output(bridge).masquerade(),
                ],
            ),
            (
                // Other firewalls are told to let everything through to the bridge, for rules of theirs can't say more
                // than a link's name. Who may come in unasked is decided here: the machines themselves, and whoever
                // uses a port that is forwarded.
                "unasked",
                base(ChainType::Filter, Hook::Forward, 0),
                vec![
                    Rule::new().output(bridge).input(bridge).accept(),
                    Rule::new().output(bridge).established().accept(),
                    Rule::new().output(bridge).translated().accept(),
                    Rule::new().output(bridge).drop(),
                ],
            ),
            (
                "foreign-loopback",
                base(ChainType::Filter, Hook::Prerouting, PRIORITY_RAW),
                vec![Rule::new().input(bridge).destination_in(loopback).drop()],
            ),
        ];
        for (name, base, rules) in chains {
            change.add_base_chain(&table, name, base).flush_chain(&table, name);
            for rule in rules {
                change.add_rule(&table, name, rule);
            }
        }
        change.commit()
    }

    /// Sends connections from the host's own processes to 127.0.0.1:`port` to the machine instead. A port that was
    /// forwarded elsewhere is forwarded here now.
    ///
    /// # Errors
    /// If [`MachineBridge::ensure`] wasn't called.
    pub fn forward_local(&self, port: u16, machine: (Ipv4Addr, u16)) -> Result<()> {
        let mut change = self.unforward(port)?;
        let key = Key::new().protocol(Protocol::Tcp).port(port);
        change.add_elements(&self.table(), &self.forwards(), &[Element::endpoint(key, machine.0, machine.1)]);
        change.commit()
    }

    /// Undoes [`MachineBridge::forward_local`], whether or not it was done.
    ///
    /// # Errors
    /// If [`MachineBridge::ensure`] wasn't called.
    pub fn forward_local_no_more(&self, port: u16) -> Result<()> {
        self.unforward(port)?.commit()
    }

    /// Ports of 127.0.0.1 that are forwarded into machines: taken, though nothing listens on them.
    ///
    /// # Errors
    /// If the kernel refuses. No table, no ports.
    pub fn forwarded(&self) -> Result<Vec<u16>> {
        match nft::elements(&self.table(), &self.forwards().name) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(found) => Ok(found.iter().filter_map(|(key, _)| port_of(key)).collect()),
        }
    }

    fn unforward(&self, port: u16) -> Result<Transaction> {
        let mut change = Transaction::new();
        if self.forwarded()?.contains(&port) {
            let key = Key::new().protocol(Protocol::Tcp).port(port);
            change.delete_elements(&self.table(), &self.forwards(), &[Element::key(key)]);
        }
        Ok(change)
    }
}

fn port_of(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(key.get(4..6)?.try_into().ok()?))
}

/// Has every firewall of this namespace accept what comes from, and goes to, these links.
///
/// A verdict to accept holds only within its own base chain: a drop in another's still drops (Docker's FORWARD policy,
/// ufw, firewalld's last rule). So a rule of ours goes to the head of each foreign chain that filters input or
/// forwarding, with a comment by which it is found again. Calling this again adds what is missing.
///
/// # Errors
/// If the kernel refuses: a table that its owner holds for itself alone is left alone with a warning.
pub fn accept_links(names: &[&str]) -> Result<()> {
    for (chain, hook) in foreign_filters()? {
        let present: Vec<String> = nft::rules(&chain.table)?
            .into_iter()
            .filter(|rule| rule.chain == chain.name)
            .filter_map(|rule| rule.comment)
            .collect();
        let mut change = Transaction::new();
        for name in names {
            let comment = comment(name);
            if present.contains(&comment) {
                continue;
            }
            // The counters make them what `iptables-nft` would have written, so that it can list them.
            change.insert_rule(&chain.table, &chain.name, Rule::new().input(name).count().accept().comment(&comment));
            if hook == FORWARD {
                let back = Rule::new().output(name).count().accept().comment(&comment);
                change.insert_rule(&chain.table, &chain.name, back);
            }
        }
        match change.commit() {
            Err(error) if error.errno() == Some(libc::EPERM) => {
                tracing::warn!(table = chain.table.name, chain = chain.name, %error, "a firewall lets nobody in");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Undoes [`accept_links`].
///
/// # Errors
/// If the kernel refuses. A rule that is gone meanwhile is no error.
pub fn withdraw_links(names: &[&str]) -> Result<()> {
    let comments: Vec<String> = names.iter().map(|name| comment(name)).collect();
    for (chain, _) in foreign_filters()? {
        for rule in nft::rules(&chain.table)? {
            let ours = rule.comment.as_ref().is_some_and(|comment| comments.contains(comment));
            if !ours || rule.chain != chain.name {
                continue;
            }
            let mut change = Transaction::new();
            change.delete_rule(&chain.table, &chain.name, rule.handle);
            match change.commit() {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn comment(link: &str) -> String {
    format!("tug:{link}")
}

/// Base chains of others' tables that filter what comes in or passes through.
fn foreign_filters() -> Result<Vec<(nft::ChainInfo, u32)>> {
    let filters = nft::chains()?.into_iter().filter_map(|chain| {
        let (chain_type, hook) = chain.base.clone()?;
        let ip = matches!(chain.table.family, Family::Ipv4 | Family::Ipv6 | Family::Inet);
        let filters = chain_type == "filter" && (hook == INPUT || hook == FORWARD);
        let foreign = !chain.table.name.starts_with("tug");
        (ip && filters && foreign).then_some((chain, hook))
    });
    Ok(filters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Connection;
    use crate::nft::{chains, rules, tables};
    use crate::testing::Namespace;

    /// A host with a firewall that drops what it forwards, as Docker leaves it, and one that refuses input.
    fn strict_firewall() {
        let filter = Table::ipv4("filter");
        let base = |hook| Base { chain_type: ChainType::Filter, hook, priority: 0 };
        let mut change = Transaction::new();
        change.add_table(&filter);
        for (name, hook) in [("FORWARD", Hook::Forward), ("INPUT", Hook::Input)] {
            change.add_base_chain(&filter, name, base(hook));
            change.add_rule(&filter, name, Rule::new().established().accept());
            // The host's own loopback is let in by every firewall.
            change.add_rule(&filter, name, Rule::new().input("lo").accept());
            change.add_rule(&filter, name, Rule::new().drop());
        }
        change.commit().expect("committed");
    }

    #[test]
    fn a_machine_is_reached_through_loopback_and_reaches_out() {
        let (host, outside, machine) = (Namespace::new(), Namespace::new(), Namespace::new());
        host.uplink(&outside, "uplink", "192.0.2.1/24", "192.0.2.9/24");
        host.run(strict_firewall);
        let bridge = MachineBridge { bridge: "tug0".into(), address: "172.30.0.1/24".parse().expect("a net") };
        host.run(|| {
            bridge.ensure(1500).expect("made");
            bridge.ensure(1500).expect("made again");
            let connection = Connection {
                link: "tugtest1",
                bridge: "tug0",
                address: "172.30.0.2/24".parse().expect("a net"),
                gateway: [172, 30, 0, 1].into(),
                mtu: 1500,
            };
            links::connect(&connection, &machine).expect("connected");
            bridge.forward_local(6443, ([172, 30, 0, 2].into(), 443)).expect("forwarded");
            bridge.forward_local(6443, ([172, 30, 0, 2].into(), 6443)).expect("forwarded elsewhere");
            assert_eq!(bridge.forwarded().expect("listed"), [6443]);
        });
        machine.serve(6443, "machine");
        host.serve(5000, "host");
        outside.serve(80, "outside");

        assert_eq!(host.ask("127.0.0.1:6443").expect("forwarded"), "machine 172.30.0.1");
        assert_eq!(host.ask("172.30.0.2:6443").expect("routed"), "machine 172.30.0.1");
        assert_eq!(machine.ask("192.0.2.9:80").expect("masqueraded"), "outside 192.0.2.1");
        assert_eq!(machine.ask("172.30.0.1:5000").expect("let in"), "host 172.30.0.2");
        assert!(outside.ask("172.30.0.2:6443").is_err(), "nobody asked the outside in");

        host.run(|| {
            assert_eq!(rules(&Table::ipv4("filter")).expect("listed").len(), 6 + 3);
            bridge.forward_local_no_more(6443).expect("undone");
            bridge.forward_local_no_more(6443).expect("undone again");
        });
        assert!(host.ask("127.0.0.1:6443").is_err());
        host.run(|| {
            bridge.remove().expect("removed");
            bridge.remove().expect("removed again");
            assert_eq!(rules(&Table::ipv4("filter")).expect("listed").len(), 6);
            assert_eq!(tables().expect("listed"), [Table::ipv4("filter")]);
            assert_eq!(chains().expect("listed").len(), 2);
            assert!(!links::exists("tug0").expect("listed"));
        });
    }

    /// Docker and ufw run `iptables`, which refuses to work on a table with rules that it couldn't have written.
    #[test]
    fn iptables_reads_what_we_put_into_its_chains() {
        let iptables = |arguments: &str| {
            let run = std::process::Command::new("iptables").args(arguments.split(' ')).output();
            let Ok(output) = run else {
                // Where it isn't installed it reads nothing of ours.
                return None;
            };
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        Namespace::new().run(|| {
            let Some(_) = iptables("-P FORWARD DROP") else { return };
            accept_links(&["tug0"]).expect("accepted");
            let rule = |direction| format!("-A FORWARD {direction} tug0 -m comment --comment \"tug:tug0\" -j ACCEPT\n");
            let listed = iptables("-S FORWARD").expect("it ran before");
            assert_eq!(listed, format!("-P FORWARD DROP\n{}{}", rule("-o"), rule("-i")));
            iptables("-I FORWARD -i docker0 -j ACCEPT").expect("it ran before");
            withdraw_links(&["tug0"]).expect("withdrawn");
            let left = iptables("-S FORWARD").expect("it ran before");
            assert_eq!(left, "-P FORWARD DROP\n-A FORWARD -i docker0 -j ACCEPT\n");
        });
    }

    #[test]
    fn a_subnet_is_chosen_that_the_host_does_not_use() {
        Namespace::new().run(|| {
            links::ensure_bridge("other", "172.30.5.1/16".parse().expect("a net"), 1500).expect("made");
            let candidates = ["172.30.0.0/24", "172.31.0.0/24"].map(|net| net.parse().expect("a net"));
            assert_eq!(links::free_subnet(candidates).expect("listed"), Some(candidates[1]));
            assert_eq!(links::free_subnet([candidates[0]]).expect("listed"), None);
        });
    }
}
