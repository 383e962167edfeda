//! What the kernel remembers of connections through this namespace: whether any is being made to a pod, and forgetting
//! UDP flows that were translated to an endpoint that is gone, for as long as a client keeps sending, the kernel would
//! keep translating to it.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Result, Step};
use crate::netlink::{Attributes, Socket, attribute};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
const IPV4: u8 = libc::AF_INET as u8;
const IPV6: u8 = libc::AF_INET6 as u8;
/// In a dump's header: of all address families.
const ANY_FAMILY: u8 = libc::AF_UNSPEC as u8;
const HEADER: usize = 4;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
/// Until the other side has answered, and until that answer has been.
const SYN_SENT: u8 = 1;
const SYN_RECV: u8 = 2;

/// An address and a port.
pub type End = (IpAddr, u16);

/// A tracked UDP flow. When source and destination aren't translated, the reply mirrors the first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFlow {
    /// Where the client sends to, before translation.
    pub destination: End,
    /// Who answers: the endpoint that the flow was translated to.
    pub reply_source: End,
}

/// Whether a TCP connection to this address has begun and isn't established yet.
///
/// # Errors
/// If the kernel refuses.
pub fn is_connecting(to: Ipv4Addr) -> Result<bool> {
    let mut socket = Socket::netfilter().step(|| "opening conntrack".into())?;
    let header = [IPV4, 0, 0, 0];
    let listed = socket.dump(SUBSYSTEM | GET, &header, &Attributes::new()).step(|| "listing conntrack".into())?;
    Ok(listed.iter().filter_map(|flow| connecting_to(flow.payload.get(HEADER..)?)).any(|address| address == to))
}

/// Where the connection leads, if it is one that isn't established yet.
fn connecting_to(body: &[u8]) -> Option<IpAddr> {
    let (protocol, (address, _), _) = ends(attribute(body, TUPLE_REPLY)?)?;
    if protocol != TCP {
        return None;
    }
    let state = attribute(attribute(attribute(body, PROTOCOL_INFO)?, 1)?, 1)?;
    matches!(state, [SYN_SENT | SYN_RECV, ..]).then_some(address)
}

/// As [`forget_udp`], for callers who have done their work already: a flow that isn't forgotten times out within
/// minutes of its last packet.
pub fn try_forget_udp(gone: impl Fn(&UdpFlow) -> bool) {
    if let Err(error) = forget_udp(gone) {
        tracing::warn!(%error, "UDP flows to endpoints that are gone live on for a while");
    }
}

/// Forgets the flows that `gone` picks; gives how many.
///
/// # Errors
/// If the kernel refuses. A flow that ends meanwhile is no error.
pub fn forget_udp(gone: impl Fn(&UdpFlow) -> bool) -> Result<usize> {
    let mut socket = Socket::netfilter().step(|| "opening conntrack".into())?;
    let any = [ANY_FAMILY, 0, 0, 0];
    let listed = socket.dump(SUBSYSTEM | GET, &any, &Attributes::new()).step(|| "listing conntrack".into())?;
    let mut forgotten = 0;
    for flow in &listed {
        let Some((found, tuple)) = flow.payload.get(HEADER..).and_then(read) else {
            continue;
        };
        if !gone(&found) {
            continue;
        }
        let body = Attributes::new().nest(TUPLE_ORIG, Attributes::raw(tuple));
        let family = if found.destination.0.is_ipv4() { IPV4 } else { IPV6 };
        match socket.execute(SUBSYSTEM | DELETE, 0, &[family, 0, 0, 0], &body) {
            Ok(()) => forgotten += 1,
            Err(failure) if failure.errno == libc::ENOENT => {}
            Err(failure) => return Err(failure).step(|| "deleting a conntrack entry".into()),
        }
    }
    Ok(forgotten)
}

/// A UDP flow and its original tuple as it stands in the message.
fn read(body: &[u8]) -> Option<(UdpFlow, &[u8])> {
    let (original, reply) = (attribute(body, TUPLE_ORIG)?, attribute(body, TUPLE_REPLY)?);
    let (original_protocol, _, destination) = ends(original)?;
    let (_, reply_source, _) = ends(reply)?;
    (original_protocol == UDP).then_some((UdpFlow { destination, reply_source }, original))
}

/// Protocol, source and destination of a tuple.
fn ends(tuple: &[u8]) -> Option<(u8, End, End)> {
    let (ip, transport) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    let ipv4 = |kind| Some(IpAddr::from(<[u8; 4]>::try_from(attribute(ip, kind)?).ok()?));
    let ipv6 = |kind| Some(IpAddr::from(<[u8; 16]>::try_from(attribute(ip, kind)?).ok()?));
    let port = |kind| Some(u16::from_be_bytes(attribute(transport, kind)?.get(..2)?.try_into().ok()?));
    let protocol = *attribute(transport, 1)?.first()?;
    Some((protocol, (ipv4(1).or_else(|| ipv6(3))?, port(2)?), (ipv4(2).or_else(|| ipv6(4))?, port(3)?)))
}
