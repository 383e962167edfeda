//! What the kernel must be able to do, tried in a network namespace of its own, so that what is missing has a name before
//! anything depends on it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, unshare};

use crate::conntrack;
use crate::error::{Error, Result, Step};
use crate::links;
use crate::nft::{
    Base, ChainType, Field, Hook, MapKind, PRIORITY_DSTNAT, PRIORITY_SRCNAT, Rule, Set, Table, Transaction,
};
use crate::pods::Protocol;

/// Names of the kernel's options for what it can't do, in the order in which to switch them on. Empty when all is well.
///
/// # Errors
/// If no network namespace can be made: no root, or a kernel without them.
pub fn missing() -> Result<Vec<&'static str>> {
    let probing = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).step(|| "making a network namespace".into())?;
        Ok(probe())
    });
    probing.join().map_err(|_| Error::ThreadPanicked)?
}

fn probe() -> Vec<&'static str> {
    let net = Ipv4Net::new(Ipv4Addr::new(192, 0, 2, 1), 24).expect("24 bits are a prefix");
    let two = [(net.addr(), 80), (net.network(), 80)];
    let nat = |hook| Base { chain_type: ChainType::Nat, hook, priority: PRIORITY_DSTNAT };
    let filter = Base { chain_type: ChainType::Filter, hook: Hook::Forward, priority: PRIORITY_SRCNAT };
    let tries: [(&str, Result<()>); 11] = [
        ("CONFIG_BRIDGE", links::ensure_bridge("tug-probe", net, 1500)),
        ("CONFIG_VETH", links::make_veth("tug-probe-a", "tug-probe-b")),
        ("CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4", rule(filter, Rule::new().input("lo"))),
        ("CONFIG_NF_NAT, CONFIG_NFT_NAT", rule(nat(Hook::Prerouting), Rule::new().translate_to(&two[..1]))),
        ("CONFIG_NFT_MASQ", rule(nat(Hook::Postrouting), Rule::new().masquerade())),
        ("CONFIG_NFT_CT", rule(filter, Rule::new().new_connection())),
        ("CONFIG_NFT_NUMGEN", rule(nat(Hook::Prerouting), Rule::new().translate_to(&two))),
        ("CONFIG_NFT_REJECT, CONFIG_NFT_REJECT_IPV4", rule(filter, Rule::new().reject())),
        ("CONFIG_NFT_FIB, CONFIG_NFT_FIB_IPV4", rule(filter, Rule::new().destination_local())),
        ("CONFIG_NF_TABLES (maps of concatenations)", map()),
        ("CONFIG_NF_CT_NETLINK", conntrack::forget_udp(|_| false).map(|_| ())),
    ];
    let missing = tries.into_iter().filter_map(|(name, tried)| {
        tried.inspect_err(|error| tracing::debug!(name, %error, "the kernel lacks a feature")).err().map(|_| name)
    });
    missing.collect()
}

fn rule(base: Base, rule: Rule) -> Result<()> {
    let table = Table::ipv4("tug-probe");
    let mut change = Transaction::new();
    change.delete_table(&table).add_table(&table).add_base_chain(&table, "probe", base);
    change.add_rule(&table, "probe", Rule::new().protocol(Protocol::Tcp).count()).add_rule(&table, "probe", rule);
    change.commit()
}

fn map() -> Result<()> {
    let table = Table::ipv4("tug-probe");
    let fields = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let mut change = Transaction::new();
    change.delete_table(&table).add_table(&table).add_set(&table, &Set::map("probe", &fields, MapKind::Verdict));
    change.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine that tests run on can do all that they then do.
    #[test]
    fn nothing_is_missing_here() {
        assert_eq!(missing().expect("probed"), Vec::<&str>::new());
    }
}
