//! Addresses of links, and routes; those of IPv6 are usable at once, without a search for who else has them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::{Result, Step};
use crate::links::{CREATE, EXCLUSIVE, REPLACE, all, index, route, tolerate};
use crate::netlink::{Attributes, attribute, octets, read_u32};

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `IFA_F_NODAD`.
const NO_DUPLICATE_DETECTION: u8 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// Lengths of `struct ifaddrmsg` and `rtmsg`, after which attributes begin.
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// Gives the link an address that it may have already.
///
/// # Errors
/// If there is no such link.
pub fn add_address(link: &str, address: impl Into<IpNet>) -> Result<()> {
    let address = address.into();
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
pub fn remove_address(link: &str, address: impl Into<IpNet>) -> Result<()> {
    let address = address.into();
    let removed = route()?.execute(libc::RTM_DELADDR, 0, &address_header(link, address)?, &address_body(address));
    tolerate(removed, libc::EADDRNOTAVAIL).step(|| format!("taking address {address} from {link}"))
}

/// Routes a net to a link, without a gateway.
///
/// # Errors
/// If there is no such link.
pub fn add_route(net: impl Into<IpNet>, link: &str) -> Result<()> {
    let net = net.into();
    let body = Attributes::new().bytes(RTA_DST, &octets(net.network())).u32(RTA_OIF, index(link)?);
    let header = route_header(net, libc::RT_SCOPE_LINK);
    let added = route()?.execute(libc::RTM_NEWROUTE, CREATE | REPLACE, &header, &body);
    added.step(|| format!("routing {net} to {link}"))
}

/// Undoes [`add_route`], whether or not it was done.
///
/// # Errors
/// If the kernel refuses.
pub fn delete_route(net: impl Into<IpNet>, link: &str) -> Result<()> {
    let net = net.into();
    let Ok(link) = index(link) else {
        // A link's routes go with it.
        return Ok(());
    };
    let body = Attributes::new().bytes(RTA_DST, &octets(net.network())).u32(RTA_OIF, link);
    let header = route_header(net, libc::RT_SCOPE_LINK);
    let deleted = route()?.execute(libc::RTM_DELROUTE, 0, &header, &body);
    tolerate(deleted, libc::ESRCH).step(|| format!("deleting the route to {net}"))
}

/// In place of the default route of the same family that there may be.
pub(crate) fn add_default_route(gateway: IpAddr) -> Result<()> {
    add_route_by(everything(gateway), gateway)
}

/// Routes a net to a gateway, in place of the route that it has.
pub(crate) fn add_route_by(net: IpNet, gateway: IpAddr) -> Result<()> {
    let mut body = Attributes::new().bytes(RTA_GATEWAY, &octets(gateway));
    if net.prefix_len() > 0 {
        body = body.bytes(RTA_DST, &octets(net.network()));
    }
    let added =
        route()?.execute(libc::RTM_NEWROUTE, CREATE | REPLACE, &route_header(net, libc::RT_SCOPE_UNIVERSE), &body);
    added.step(|| format!("routing {net} to {gateway}"))
}

fn everything(like: IpAddr) -> IpNet {
    IpNet::new(like, 0).expect("no bits are a prefix").trunc()
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
            let link = links.iter().find(|link| link.index == index)?;
            Some((link.name.clone(), Ipv4Net::new(Ipv4Addr::from(address), prefix).ok()?))
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

fn address_header(link: &str, address: IpNet) -> Result<Vec<u8>> {
    let flags = if address.addr().is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
    let mut header = vec![family(address.addr()), address.prefix_len(), flags, libc::RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index(link)?.to_ne_bytes());
    Ok(header)
}

fn address_body(address: IpNet) -> Attributes {
    let octets = octets(address.addr());
    Attributes::new().bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets)
}

fn route_header(net: IpNet, scope: u8) -> [u8; ROUTE_HEADER] {
    let mut header = [0; ROUTE_HEADER];
    header[0] = family(net.addr());
    header[1] = net.prefix_len();
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_BOOT;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Whether `eth0` of the namespace that the calling thread is in has this address.
pub(crate) fn inner_has(address: Ipv4Addr) -> Result<bool> {
    Ok(addresses()?.iter().any(|(link, net)| link == "eth0" && net.addr() == address))
}
