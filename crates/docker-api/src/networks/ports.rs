//! Ports of the host that lead to containers: which are free, and who holds them.
//!
//! The kernel leads packets on by itself. A socket is held for each port all the same: it keeps other processes from
//! taking the port, tells when one has it already, and where the kernel has no way (`::1`, and IPv6 to a container that
//! has none) what comes in by it is passed on.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tug_network::bridges::PublishedPort;
use tug_network::pods::Protocol;

use crate::networks::pass::{self, Target};
use crate::networks::settings::{PortBinding, Request};
use crate::reply::Failure;

const EPHEMERAL: (u16, u16) = (49153, 65535);

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub protocol: Transport,
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
    }
}

/// `80/tcp`, `80`.
pub fn parse_port(text: &str) -> Option<(u16, Transport)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "sctp" => Transport::Sctp,
        _ => return None,
    };
    Some((port.parse().ok().filter(|port| *port > 0)?, protocol))
}

/// `8000`, `8000-8010`; nothing is any port.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// One port that a container wants published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub protocol: Transport,
    pub container_port: u16,
    /// `None`: where the network's ports are published.
    pub host_ip: Option<IpAddr>,
    /// The first and the last that may be taken; 0 is any.
    pub range: (u16, u16),
}

/// Names ports as `80/tcp` that are named as `80`.
pub fn complete(request: &mut Request) {
    let whole = |port: &String| match parse_port(port) {
        Some((number, protocol)) => format!("{number}/{}", protocol.name()),
        None => port.clone(),
    };
    request.exposed = request.exposed.iter().map(whole).collect();
    request.ports = std::mem::take(&mut request.ports).into_iter().map(|(port, to)| (whole(&port), to)).collect();
}

/// What a container's configuration asks to publish.
///
/// # Errors
/// For ports and addresses that aren't any, in dockerd's words.
pub fn wanted(request: &Request) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for (port, bindings) in &request.ports {
        let (container_port, protocol) =
            parse_port(port).ok_or_else(|| Failure::new(400, format!("invalid port specification: {port:?}")))?;
        let any = [PortBinding::default()];
        let bindings = if bindings.is_empty() && request.publish_all { any.as_slice() } else { bindings };
        for PortBinding { host_ip, host_port } in bindings {
            let address = host_ip.parse().ok();
            if address.is_none() && !host_ip.is_empty() {
                return Err(Failure::new(400, format!("invalid IP address: {host_ip}")));
            }
            let range = parse_range(host_port)
                .ok_or_else(|| Failure::new(400, format!("invalid port specification: {host_port:?}")))?;
            wanted.push(Wanted { protocol, container_port, host_ip: address, range });
        }
    }
    for port in request.exposed.iter().filter(|port| request.publish_all && !request.ports.contains_key(*port)) {
        let (container_port, protocol) =
            parse_port(port).ok_or_else(|| Failure::new(400, format!("invalid port specification: {port:?}")))?;
        wanted.push(Wanted { protocol, container_port, host_ip: None, range: (0, 0) });
    }
    Ok(wanted)
}

impl Binding {
    /// `80/tcp`.
    pub fn container_port(&self) -> String {
        format!("{}/{}", self.container_port, self.protocol.name())
    }

    pub fn shown(&self) -> PortBinding {
        PortBinding { host_ip: self.host_ip.to_string(), host_port: self.host_port.to_string() }
    }

    /// What the kernel is to do, if the container has an address of the family.
    pub fn published(&self, ipv4: Option<IpAddr>, ipv6: Option<IpAddr>) -> Option<PublishedPort> {
        let target = if self.host_ip.is_ipv4() { ipv4 } else { ipv6 }?;
        Some(PublishedPort {
            protocol: self.protocol.protocol(),
            host_ip: self.host_ip,
            host_port: self.host_port,
            target,
            container_port: self.container_port,
        })
    }
}

type Key = (Transport, u16);

/// All host ports that this engine has given away.
#[derive(Default)]
pub struct HostPorts {
    inner: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    taken: BTreeMap<Key, Vec<IpAddr>>,
    /// The port that was given last of those that nobody asked for.
    last: u16,
}

/// Why a port isn't to be had: it is another container's, or the kernel says no.
enum Refusal {
    Given(String),
    Bound(String),
}

/// A port that is held until this is dropped.
pub struct Held {
    pub binding: Binding,
    ports: Arc<HostPorts>,
    target: Target,
    /// Holds the socket.
    passing: JoinSet<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ports.give_back(&self.binding);
    }
}

impl Held {
    pub fn lead_to(&self, target: Option<IpAddr>) {
        self.target.set(target);
    }

    /// Frees these ports: returns once they can be taken again. Dropped, their sockets end a little later.
    pub async fn free(all: Vec<Self>) {
        for mut held in all {
            held.passing.shutdown().await;
        }
    }
}

impl HostPorts {
    /// Takes a port for a container, on each of these addresses the same.
    ///
    /// # Errors
    /// In dockerd's words when it is taken, by a container or another process.
    pub async fn take(self: &Arc<Self>, wanted: &Wanted, addresses: &[IpAddr]) -> Result<Vec<Held>, Failure> {
        let mut failure = Failure::new(500, "all ports are allocated");
        for port in self.candidates(wanted.range) {
            match self.take_one(wanted, addresses, port).await {
                Ok(held) => return Ok(held),
                Err(Refusal::Given(words)) if wanted.range.0 == wanted.range.1 && wanted.range.0 != 0 => {
                    return Err(Failure::new(500, words));
                }
                Err(Refusal::Given(_)) => {}
                Err(Refusal::Bound(words)) => failure = Failure::new(500, words),
            }
        }
        Err(failure)
    }

    /// A port that a container had before this process: it stays its own even if somebody else listens on it now.
    pub fn take_back(self: &Arc<Self>, binding: Binding) -> Held {
        self.inner.lock().taken.entry((binding.protocol, binding.host_port)).or_default().push(binding.host_ip);
        let socket = bind(&binding).inspect_err(|error| {
            tracing::warn!(host_ip = %binding.host_ip, port = binding.host_port, %error, "a published port can't be held");
        });
        self.hold(binding, socket.ok().flatten())
    }

    async fn take_one(
        self: &Arc<Self>,
        wanted: &Wanted,
        addresses: &[IpAddr],
        host_port: u16,
    ) -> Result<Vec<Held>, Refusal> {
        let mut held = Vec::new();
        for host_ip in addresses {
            let (protocol, container_port) = (wanted.protocol, wanted.container_port);
            match self.take_on(Binding { protocol, host_ip: *host_ip, host_port, container_port }) {
                Ok(one) => held.push(one),
                Err(refusal) => {
                    Held::free(held).await;
                    return Err(refusal);
                }
            }
        }
        Ok(held)
    }

    fn take_on(self: &Arc<Self>, binding: Binding) -> Result<Held, Refusal> {
        let Binding { protocol, host_ip, host_port, .. } = binding;
        if !self.reserve(&binding) {
            return Err(Refusal::Given(format!("Bind for {host_ip}:{host_port} failed: port is already allocated")));
        }
        bind(&binding).map(|socket| self.hold(binding, socket)).map_err(|error| {
            self.give_back(&binding);
            let address = SocketAddr::new(host_ip, host_port);
            Refusal::Bound(format!("failed to bind host port {address}/{}: {}", protocol.name(), why(&error)))
        })
    }

    fn hold(self: &Arc<Self>, binding: Binding, socket: Option<OwnedFd>) -> Held {
        let target = Target::default();
        let mut passing = JoinSet::new();
        let passed = socket.map(|socket| match binding.protocol {
            Transport::Tcp => pass::tcp(socket.into(), target.clone(), binding.container_port, &mut passing),
            _ => pass::udp(socket.into(), target.clone(), binding.container_port, &mut passing),
        });
        if let Some(Err(error)) = passed {
            tracing::warn!(port = binding.host_port, %error, "a published port can't be waited for");
        }
        Held { binding, ports: self.clone(), target, passing }
    }

    /// Whether nobody had it.
    fn reserve(&self, binding: &Binding) -> bool {
        let mut inner = self.inner.lock();
        let taken = inner.taken.entry((binding.protocol, binding.host_port)).or_default();
        let clashes = |other: &IpAddr| {
            let (one, two) = (binding.host_ip, *other);
            one == two || one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified())
        };
        if taken.iter().any(clashes) {
            return false;
        }
        taken.push(binding.host_ip);
        true
    }

    fn give_back(&self, binding: &Binding) {
        let mut inner = self.inner.lock();
        let key = (binding.protocol, binding.host_port);
        if let Some(taken) = inner.taken.get_mut(&key) {
            if let Some(place) = taken.iter().position(|address| *address == binding.host_ip) {
                taken.swap_remove(place);
            }
            if taken.is_empty() {
                inner.taken.remove(&key);
            }
        }
    }

    fn candidates(&self, (first, last): (u16, u16)) -> Vec<u16> {
        if first != 0 {
            return (first..=last).collect();
        }
        let (first, last) = ephemeral();
        let mut inner = self.inner.lock();
        let next = if (first..last).contains(&inner.last) { inner.last + 1 } else { first };
        inner.last = next;
        (next..=last).chain(first..next).collect()
    }
}

/// Bound, and for TCP listening; nothing for SCTP, which the kernel may not have.
fn bind(binding: &Binding) -> io::Result<Option<OwnedFd>> {
    let kind = match binding.protocol {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
        Transport::Sctp => return Ok(None),
    };
    let family = if binding.host_ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if family == AddressFamily::Inet6 {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    let address = SockaddrStorage::from(SocketAddr::new(binding.host_ip, binding.host_port));
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)?;
    if kind == SockType::Stream {
        socket::listen(&fd.as_fd(), Backlog::MAXALLOWABLE)?;
    }
    Ok(Some(fd))
}

/// As Go says it.
fn why(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.to_string() };
    nix::errno::Errno::from_raw(errno).desc().to_ascii_lowercase()
}

/// Where the kernel takes ports from that nobody asked for.
fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => EPHEMERAL,
    }
}

/// The addresses that a port is published on, of the families in which the container can be reached.
pub fn addresses(wanted: &Wanted, default: Option<IpAddr>, ipv4: bool, ipv6: bool) -> Vec<IpAddr> {
    let passed_on = ipv4 && wanted.protocol != Transport::Sctp;
    let serves = |address: &IpAddr| if address.is_ipv4() { ipv4 } else { ipv6 || passed_on };
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let both = || any.into_iter().filter(|address| address.is_ipv4() || host_has_ipv6()).collect();
    let asked: Vec<IpAddr> = match wanted.host_ip.or(default) {
        None => both(),
        // The default bridge's `0.0.0.0` means both families, as for dockerd.
        Some(address) if wanted.host_ip.is_none() && address == any[0] => both(),
        Some(address) => vec![address],
    };
    asked.into_iter().filter(serves).collect()
}

fn host_has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
