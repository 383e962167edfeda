//! Where containers ask for names: an address of their own loopback, whose port 53 leads to a port of our choice, so that
//! a container's own DNS server has port 53 to itself.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use crate::error::{Result, Step};
use crate::nft::{Base, ChainType, Element, Field, Hook, Key, MapKind, PRIORITY_DSTNAT, Rule, Set, Table, Transaction};
use crate::pods::Protocol;
use crate::{links, netns};

/// Docker's: it stands in containers' `resolv.conf`.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// In the container's network namespace.
const TABLE: &str = "tug-resolver";

/// The sockets inside a container's network namespace that its questions come to, in place of those that were there.
///
/// # Errors
/// If the namespace is gone, or the kernel refuses.
pub fn resolver_sockets(namespace: &Path) -> Result<(UdpSocket, TcpListener)> {
    netns::run(&netns::open(namespace)?, || {
        links::set_up("lo")?;
        let bound = || -> io::Result<_> {
            let (udp, tcp) = (UdpSocket::bind((RESOLVER, 0))?, TcpListener::bind((RESOLVER, 0))?);
            let ports = (udp.local_addr()?.port(), tcp.local_addr()?.port());
            Ok(((udp, tcp), ports))
        };
        let (sockets, (udp, tcp)) = bound().step(|| format!("listening on {RESOLVER}"))?;
        lead(udp, tcp)?;
        Ok(sockets)
    })
}

/// Leads its port 53 to these.
fn lead(udp: u16, tcp: u16) -> Result<()> {
    let table = Table::ipv4(TABLE);
    let fields = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let ports = Set::map("ports", &fields, MapKind::Endpoint);
    let to =
        |protocol, port| Element::endpoint(Key::new().address(RESOLVER).protocol(protocol).port(PORT), RESOLVER, port);
    let mut change = Transaction::refill(&table)?;
    change.add_set(&table, &ports);
    change.add_elements(&table, &ports, &[to(Protocol::Udp, udp), to(Protocol::Tcp, tcp)]);
    let base = Base { chain_type: ChainType::Nat, hook: Hook::Output, priority: PRIORITY_DSTNAT };
    change.add_base_chain(&table, "output", base);
    change.add_rule(&table, "output", Rule::new().translate_by(&ports));
    change.commit()
}
