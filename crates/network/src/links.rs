//! Bridges, veth pairs, addresses and routes: made unless they are there, removed whether or not they are.

mod addresses;

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::Ipv4Net;

use crate::error::{Error, Result, Step};
use crate::netlink::{Attributes, Failure, Socket, attribute, read_u32, text};
use crate::{netns, sysctl};
#[cfg(test)]
pub(crate) use addresses::add_route_by;
pub use addresses::{
    add_address, add_route, addresses, delete_route, free_subnet, overlapping, remove_address, routes,
};
pub(crate) use addresses::{add_default_route, inner_has};

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = libc::IFF_UP as u32;
/// Length of `struct ifinfomsg`, after which attributes begin.
const LINK_HEADER: usize = 16;

/// Something with a network namespace of its own, linked to a bridge by a veth pair whose inner end is `eth0`.
#[derive(Clone, Debug)]
pub struct Connection<'a> {
    /// The outer end's name, at most 15 bytes.
    pub link: &'a str,
    pub bridge: &'a str,
    /// The inner end's address. With a prefix of 32 every packet goes through the gateway, neighbours' too.
    pub address: Ipv4Net,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    pub mtu: u32,
}

/// Makes the bridge, up and with `address`, unless it is there. Its hardware address is derived from its name, so that
/// it doesn't change with its ports and neighbours' caches stay right.
///
/// # Errors
/// If the kernel refuses: no `CAP_NET_ADMIN`, no bridge support, a link of that name that isn't a bridge.
pub fn ensure_bridge(name: &str, address: Ipv4Net, mtu: u32) -> Result<()> {
    make_bridge(name, mtu)?;
    set_up(name)?;
    add_address(name, address)
}

/// Makes the bridge, down and without an address, unless a link of that name is there.
pub(crate) fn make_bridge(name: &str, mtu: u32) -> Result<()> {
    let body = Attributes::new()
        .text(IFLA_IFNAME, name)
        .u32(IFLA_MTU, mtu)
        .bytes(IFLA_ADDRESS, &hardware_address(name))
        .nest(IFLA_LINKINFO, Attributes::new().text(IFLA_INFO_KIND, "bridge"));
    let made = route()?.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), &body);
    tolerate(made, libc::EEXIST).step(|| format!("making bridge {name}"))
}

/// A veth pair with one end on a bridge.
pub(crate) struct Pair<'a> {
    pub(crate) link: &'a str,
    pub(crate) bridge: &'a str,
    /// The other end's name in its namespace, and its hardware address.
    pub(crate) inner: &'a str,
    pub(crate) hardware_address: [u8; 6],
    pub(crate) mtu: u32,
}

/// Makes the veth pair, its inner end inside `netns` with address and default route, its outer end on the bridge, up,
/// and allowed to send a packet back out of the port it came from: a pod may reach itself through its Service.
///
/// # Errors
/// If the kernel refuses; nothing is left of the pair then.
pub fn connect(connection: &Connection<'_>, netns: impl AsFd) -> Result<()> {
    let Connection { link, bridge, address, gateway, mtu } = *connection;
    let pair = Pair { link, bridge, inner: "eth0", hardware_address: hardware_address_of(address.addr()), mtu };
    let made = make_pair(&pair, &netns).and_then(|()| {
        set_hairpin(link)?;
        netns::run(&netns, || configure_inner(address, gateway))
    });
    if made.is_err() {
        // What is reported is why it couldn't be made, not why it couldn't be unmade.
        let _ = delete(link);
    }
    made
}

/// Its outer end is up and on the bridge; the inner end is down.
pub(crate) fn make_pair(pair: &Pair<'_>, netns: &impl AsFd) -> Result<()> {
    let Pair { link, bridge, inner, hardware_address, mtu } = *pair;
    let peer = Attributes::new()
        .text(IFLA_IFNAME, inner)
        .u32(IFLA_MTU, mtu)
        .bytes(IFLA_ADDRESS, &hardware_address)
        .u32(IFLA_NET_NS_FD, netns.as_fd().as_raw_fd() as u32);
    let mut peer_message = link_header(0, 0);
    peer_message.extend_from_slice(peer.as_slice());
    let info = Attributes::new()
        .text(IFLA_INFO_KIND, "veth")
        .nest(IFLA_INFO_DATA, Attributes::new().bytes(VETH_INFO_PEER, &peer_message));
    let body = Attributes::new()
        .text(IFLA_IFNAME, link)
        .u32(IFLA_MTU, mtu)
        .u32(IFLA_MASTER, index(bridge)?)
        .nest(IFLA_LINKINFO, info);
    route()?
        .execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, IFF_UP), &body)
        .step(|| format!("making veth pair {link} on {bridge}"))
}

/// Whoever has an address next is reached at once, where a neighbour remembers who had it before.
fn hardware_address_of(address: Ipv4Addr) -> [u8; 6] {
    // The first byte's second bit: administered locally.
    let [a, b, c, d] = address.octets();
    [0x02, b't', a, b, c, d]
}

/// A veth pair that is linked to nothing, to see whether there can be one.
pub(crate) fn make_veth(link: &str, peer: &str) -> Result<()> {
    let mut peer_message = link_header(0, 0);
    peer_message.extend_from_slice(Attributes::new().text(IFLA_IFNAME, peer).as_slice());
    let info = Attributes::new()
        .text(IFLA_INFO_KIND, "veth")
        .nest(IFLA_INFO_DATA, Attributes::new().bytes(VETH_INFO_PEER, &peer_message));
    let body = Attributes::new().text(IFLA_IFNAME, link).nest(IFLA_LINKINFO, info);
    let made = route()?.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), &body);
    made.step(|| format!("making veth pair {link}"))
}

pub(crate) fn set_hairpin(link: &str) -> Result<()> {
    switch_on(link, IFLA_BRPORT_MODE).step(|| format!("letting {link} hairpin"))
}

/// Other ports of the bridge that are isolated too aren't reached from this one any more, nor reach it; the bridge is.
pub(crate) fn isolate(link: &str) -> Result<()> {
    switch_on(link, IFLA_BRPORT_ISOLATED).step(|| format!("isolating {link}"))
}

/// A switch of a bridge's port.
fn switch_on(link: &str, switch: u16) -> std::result::Result<(), Failure> {
    let index = nix::net::if_::if_nametoindex(link)?;
    let mut header = link_header(index, 0);
    header[0] = libc::AF_BRIDGE as u8;
    let body = Attributes::new().nest(IFLA_PROTINFO, Attributes::new().u8(switch, 1));
    Socket::route()?.execute(libc::RTM_SETLINK, 0, &header, &body)
}

/// Writes on a link whose it is; `ip link` shows it.
pub(crate) fn set_alias(link: &str, alias: &str) -> Result<()> {
    let body = Attributes::new().bytes(IFLA_IFALIAS, alias.as_bytes());
    let done = route()?.execute(libc::RTM_NEWLINK, 0, &link_header(index(link)?, 0), &body);
    done.step(|| format!("naming the owner of {link}"))
}

fn configure_inner(address: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
    set_up("lo")?;
    set_up("eth0")?;
    add_address("eth0", address)?;
    if !address.contains(&gateway) {
        add_route(Ipv4Net::from(gateway), "eth0")?;
    }
    add_default_route(gateway.into())
}

/// Removes a link, a veth pair's other end included, if there is one of that name.
///
/// # Errors
/// If the kernel refuses.
pub fn delete(name: &str) -> Result<()> {
    let body = Attributes::new().text(IFLA_IFNAME, name);
    let deleted = route()?.execute(libc::RTM_DELLINK, 0, &link_header(0, 0), &body);
    tolerate(deleted, libc::ENODEV).step(|| format!("deleting link {name}"))
}

/// Removes these links, whether or not they are there, in one step: the kernel waits for its readers once for all of them,
/// which takes longer than the rest. `group` is the caller's own number for them.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn delete_together(names: &[String], group: u32) -> Result<()> {
    if let [one] = names {
        return delete(one);
    }
    let body = Attributes::new().u32(IFLA_GROUP, group);
    for name in names {
        let Ok(index) = index(name) else { continue };
        let grouped = route()?.execute(libc::RTM_NEWLINK, 0, &link_header(index, 0), &body);
        tolerate(grouped, libc::ENODEV).step(|| format!("grouping {name}"))?;
    }
    let deleted = route()?.execute(libc::RTM_DELLINK, 0, &link_header(0, 0), &body);
    tolerate(deleted, libc::ENODEV).step(|| format!("deleting {} links", names.len()))
}

/// # Errors
/// If there is no such link.
pub fn set_up(name: &str) -> Result<()> {
    let index = index(name)?;
    let done = route()?.execute(libc::RTM_NEWLINK, 0, &link_header(index, IFF_UP), &Attributes::new());
    done.step(|| format!("setting {name} up"))
}

/// Whether a link of this name is there.
///
/// # Errors
/// If the kernel refuses.
pub fn exists(name: &str) -> Result<bool> {
    Ok(all()?.iter().any(|link| link.name == name))
}

/// Names of the links that begin with `prefix`.
///
/// # Errors
/// If the kernel refuses.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    Ok(all()?.into_iter().map(|link| link.name).filter(|name| name.starts_with(prefix)).collect())
}

/// Names of the links that are ports of the bridge.
///
/// # Errors
/// If there is no such bridge.
pub fn ports(bridge: &str) -> Result<Vec<String>> {
    let bridge = index(bridge)?;
    Ok(all()?.into_iter().filter(|link| link.bridge == Some(bridge)).map(|link| link.name).collect())
}

/// Lets this namespace route packets between its links, and keeps it from telling neighbours of shorter ways that
/// would lead around it.
pub(crate) fn forward_on(bridge: &str) -> Result<()> {
    sysctl::set("ipv4/ip_forward", "1")?;
    sysctl::set("ipv4/conf/all/send_redirects", "0")?;
    sysctl::set(&format!("ipv4/conf/{bridge}/send_redirects"), "0")
}

/// A link's number.
pub(crate) fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(|_| Error::NoSuchLink(name.to_owned()))
}

/// A link of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The number of the bridge that it is a port of.
    bridge: Option<u32>,
    /// What [`set_alias`] wrote.
    pub(crate) alias: Option<String>,
    pub(crate) hardware_address: Option<Vec<u8>>,
}

impl Link {
    /// Whether it is a bridge that [`make_bridge`] made: its hardware address says so.
    pub(crate) fn was_made_here(&self) -> bool {
        self.hardware_address.as_deref() == Some(&hardware_address(&self.name))
    }
}

pub(crate) fn all() -> Result<Vec<Link>> {
    let mut socket = route()?;
    let found =
        socket.dump(libc::RTM_GETLINK, &link_header(0, 0), &Attributes::new()).step(|| "listing links".into())?;
    Ok(found
        .iter()
        .filter_map(|received| {
            let body = received.payload.get(LINK_HEADER..)?;
            Some(Link {
                index: read_u32(received.payload.get(4..)?)?,
                name: text(attribute(body, IFLA_IFNAME)?),
                bridge: attribute(body, IFLA_MASTER).and_then(read_u32),
                alias: attribute(body, IFLA_IFALIAS).map(text),
                hardware_address: attribute(body, IFLA_ADDRESS).map(<[u8]>::to_vec),
            })
        })
        .collect())
}

fn route() -> Result<Socket> {
    Socket::route().step(|| "opening a route socket".into())
}

fn tolerate(result: std::result::Result<(), Failure>, errno: i32) -> std::result::Result<(), Failure> {
    match result {
        Err(failure) if failure.errno == errno => Ok(()),
        other => other,
    }
}

fn link_header(index: u32, up: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for value in [index, up, up] {
        header.extend_from_slice(&value.to_ne_bytes());
    }
    header
}

/// FNV-1a: the same in every build, which a link's name must be.
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Locally administered and unicast.
fn hardware_address(name: &str) -> [u8; 6] {
    let [a, b, c, d, e, ..] = stable_hash(name).to_be_bytes();
    [0x02, a, b, c, d, e]
}
