//! Bridges, veth pairs, addresses and routes: made unless they are there, removed whether or not they are.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::Ipv4Net;

use crate::error::{Error, Result, Step};
use crate::netlink::{Attributes, Failure, Socket, attribute, read_u32, text};
use crate::{netns, sysctl};

const AF_INET: u8 = libc::AF_INET as u8;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = libc::IFF_UP as u32;
/// Lengths of `struct ifinfomsg`, `ifaddrmsg` and `rtmsg`, after which attributes begin.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

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
    let body = Attributes::new()
        .text(IFLA_IFNAME, name)
        .u32(IFLA_MTU, mtu)
        .bytes(IFLA_ADDRESS, &hardware_address(name))
        .nest(IFLA_LINKINFO, Attributes::new().text(IFLA_INFO_KIND, "bridge"));
    let made = route()?.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, IFF_UP), &body);
    tolerate(made, libc::EEXIST).step(|| format!("making bridge {name}"))?;
    set_up(name)?;
    add_address(name, address)
}

/// Makes the veth pair, its inner end inside `netns` with address and default route, its outer end on the bridge, up,
/// and allowed to send a packet back out of the port it came from: a pod may reach itself through its Service.
///
/// # Errors
/// If the kernel refuses; nothing is left of the pair then.
pub fn connect(connection: &Connection<'_>, netns: impl AsFd) -> Result<()> {
    let made = make_pair(connection, &netns).and_then(|()| {
        set_hairpin(connection.link)?;
        let (address, gateway) = (connection.address, connection.gateway);
        netns::run(&netns, || configure_inner(address, gateway))
    });
    if made.is_err() {
        // What is reported is why it couldn't be made, not why it couldn't be unmade.
        let _ = delete(connection.link);
    }
    made
}

fn make_pair(connection: &Connection<'_>, netns: &impl AsFd) -> Result<()> {
    let Connection { link, bridge, address, mtu, .. } = *connection;
    let peer = Attributes::new()
        .text(IFLA_IFNAME, "eth0")
        .u32(IFLA_MTU, mtu)
        .bytes(IFLA_ADDRESS, &hardware_address_of(address.addr()))
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

fn set_hairpin(link: &str) -> Result<()> {
    let mut header = link_header(index(link)?, 0);
    header[0] = libc::AF_BRIDGE as u8;
    let body = Attributes::new().nest(IFLA_PROTINFO, Attributes::new().u8(IFLA_BRPORT_MODE, 1));
    route()?.execute(libc::RTM_SETLINK, 0, &header, &body).step(|| format!("letting {link} hairpin"))
}

fn configure_inner(address: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
    set_up("lo")?;
    set_up("eth0")?;
    add_address("eth0", address)?;
    if !address.contains(&gateway) {
        add_route(Ipv4Net::from(gateway), "eth0")?;
    }
    add_default_route(gateway)
}

/// Whether `eth0` of the namespace that the calling thread is in has this address.
pub(crate) fn inner_has(address: Ipv4Addr) -> Result<bool> {
    Ok(addresses()?.iter().any(|(link, net)| link == "eth0" && net.addr() == address))
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

/// # Errors
/// If there is no such link.
pub fn set_up(name: &str) -> Result<()> {
    let index = index(name)?;
    let done = route()?.execute(libc::RTM_NEWLINK, 0, &link_header(index, IFF_UP), &Attributes::new());
    done.step(|| format!("setting {name} up"))
}

/// Gives the link an address that it may have already.
///
/// # Errors
/// If there is no such link.
pub fn add_address(link: &str, address: Ipv4Net) -> Result<()> {
    let added = route()?.execute(
        libc::RTM_NEWADDR,
        CREATE | EXCLUSIVE,
        &address_header(link, address)?,
        &address_body(address),
    );
    tolerate(added, libc::EEXIST).step(|| format!("giving {link} address {address}"))
}

/// Takes an address from a link that may not have it.
///
/// # Errors
/// If there is no such link.
pub fn remove_address(link: &str, address: Ipv4Net) -> Result<()> {
    let removed = route()?.execute(libc::RTM_DELADDR, 0, &address_header(link, address)?, &address_body(address));
    tolerate(removed, libc::EADDRNOTAVAIL).step(|| format!("taking address {address} from {link}"))
}

/// Routes a net to a link, without a gateway.
///
/// # Errors
/// If there is no such link.
pub fn add_route(net: Ipv4Net, link: &str) -> Result<()> {
    let body = Attributes::new().bytes(RTA_DST, &net.network().octets()).u32(RTA_OIF, index(link)?);
    let header = route_header(net.prefix_len(), libc::RT_SCOPE_LINK);
    let added = route()?.execute(libc::RTM_NEWROUTE, CREATE | REPLACE, &header, &body);
    added.step(|| format!("routing {net} to {link}"))
}

/// Undoes [`add_route`], whether or not it was done.
///
/// # Errors
/// If the kernel refuses.
pub fn delete_route(net: Ipv4Net, link: &str) -> Result<()> {
    let Ok(link) = index(link) else {
        // A link's routes go with it.
        return Ok(());
    };
    let body = Attributes::new().bytes(RTA_DST, &net.network().octets()).u32(RTA_OIF, link);
    let header = route_header(net.prefix_len(), libc::RT_SCOPE_LINK);
    let deleted = route()?.execute(libc::RTM_DELROUTE, 0, &header, &body);
    tolerate(deleted, libc::ESRCH).step(|| format!("deleting the route to {net}"))
}

fn add_default_route(gateway: Ipv4Addr) -> Result<()> {
    let body = Attributes::new().bytes(RTA_GATEWAY, &gateway.octets());
    let header = route_header(0, libc::RT_SCOPE_UNIVERSE);
    let added = route()?.execute(libc::RTM_NEWROUTE, CREATE | REPLACE, &header, &body);
    added.step(|| format!("routing everything to {gateway}"))
}

/// Whether a link of this name is there.
///
/// # Errors
/// If the kernel refuses.
pub fn exists(name: &str) -> Result<bool> {
    Ok(all()?.iter().any(|(_, found)| found == name))
}

/// Names of the links that begin with `prefix`.
///
/// # Errors
/// If the kernel refuses.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    Ok(all()?.into_iter().map(|(_, name)| name).filter(|name| name.starts_with(prefix)).collect())
}

/// Names of the links that are ports of the bridge.
///
/// # Errors
/// If there is no such bridge.
pub fn ports(bridge: &str) -> Result<Vec<String>> {
    let bridge = index(bridge)?;
    let mut socket = route()?;
    let found =
        socket.dump(libc::RTM_GETLINK, &link_header(0, 0), &Attributes::new()).step(|| "listing links".into())?;
    Ok(found
        .iter()
        .filter_map(|received| received.payload.get(LINK_HEADER..))
        .filter(|body| attribute(body, IFLA_MASTER).and_then(read_u32) == Some(bridge))
        .filter_map(|body| Some(text(attribute(body, IFLA_IFNAME)?)))
        .collect())
}

/// All IPv4 addresses with the links that have them.
///
/// # Errors
/// If the kernel refuses.
pub fn addresses() -> Result<Vec<(String, Ipv4Net)>> {
    let links = all()?;
    let mut header = [0; ADDRESS_HEADER];
    header[0] = AF_INET;
    let found = route()?.dump(libc::RTM_GETADDR, &header, &Attributes::new()).step(|| "listing addresses".into())?;
    Ok(found
        .iter()
        .filter_map(|received| {
            let (prefix, body) = (*received.payload.get(1)?, received.payload.get(ADDRESS_HEADER..)?);
            let index = read_u32(received.payload.get(4..)?)?;
            let address: [u8; 4] = attribute(body, IFA_LOCAL).or(attribute(body, IFA_ADDRESS))?.try_into().ok()?;
            let (_, link) = links.iter().find(|(found, _)| *found == index)?;
            Some((link.clone(), Ipv4Net::new(Ipv4Addr::from(address), prefix).ok()?))
        })
        .collect())
}

/// Destinations of all IPv4 routes but the default.
///
/// # Errors
/// If the kernel refuses.
pub fn routes() -> Result<Vec<Ipv4Net>> {
    let mut header = [0; ROUTE_HEADER];
    header[0] = AF_INET;
    let found = route()?.dump(libc::RTM_GETROUTE, &header, &Attributes::new()).step(|| "listing routes".into())?;
    Ok(found
        .iter()
        .filter_map(|received| {
            let (prefix, body) = (*received.payload.get(1)?, received.payload.get(ROUTE_HEADER..)?);
            let net: [u8; 4] = attribute(body, RTA_DST)?.try_into().ok()?;
            Ipv4Net::new(Ipv4Addr::from(net), prefix).ok()
        })
        .collect())
}

/// The first of `candidates` that overlaps no route and no address of the namespace, for a bridge of our own.
///
/// # Errors
/// If routes can't be listed. `None` when all are taken.
pub fn free_subnet(candidates: impl IntoIterator<Item = Ipv4Net>) -> Result<Option<Ipv4Net>> {
    let taken = reached()?;
    Ok(candidates.into_iter().find(|candidate| !taken.iter().any(|net| overlap(net, candidate))))
}

/// Networks that this namespace has routes to or addresses in, default routes aside, and that share addresses with
/// `range`.
///
/// # Errors
/// If the kernel refuses.
pub fn overlapping(range: Ipv4Net) -> Result<Vec<Ipv4Net>> {
    let mut found: Vec<_> = reached()?.into_iter().filter(|net| overlap(net, &range)).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn reached() -> Result<Vec<Ipv4Net>> {
    let mut reached = routes()?;
    reached.extend(addresses()?.into_iter().map(|(_, net)| net.trunc()));
    Ok(reached)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
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

fn all() -> Result<Vec<(u32, String)>> {
    let mut socket = route()?;
    let found =
        socket.dump(libc::RTM_GETLINK, &link_header(0, 0), &Attributes::new()).step(|| "listing links".into())?;
    Ok(found
        .iter()
        .filter_map(|received| {
            let body = received.payload.get(LINK_HEADER..)?;
            Some((read_u32(received.payload.get(4..)?)?, text(attribute(body, IFLA_IFNAME)?)))
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

fn address_header(link: &str, address: Ipv4Net) -> Result<Vec<u8>> {
    let mut header = vec![AF_INET, address.prefix_len(), 0, libc::RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index(link)?.to_ne_bytes());
    Ok(header)
}

fn address_body(address: Ipv4Net) -> Attributes {
    let octets = address.addr().octets();
    Attributes::new().bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets)
}

fn route_header(prefix: u8, scope: u8) -> [u8; ROUTE_HEADER] {
    let mut header = [0; ROUTE_HEADER];
    header[0] = AF_INET;
    header[1] = prefix;
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_BOOT;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
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
