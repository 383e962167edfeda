//! A container's own resolver: names and addresses of its networks are answered here, others by the host's resolvers.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tug_network::bridges::resolver_sockets;
use tug_network::dial::runtime_in_netns;
use tug_resolver::{Answer, Here, Server, Sockets, Zone};

use crate::networks::member::{Attached, Member, Up};
use crate::networks::{Inner, Networks, State};
use crate::reply::Failure;

/// dockerd's, in seconds.
const TTL: u32 = 600;
const PORT: u16 = 53;

/// A container's resolver; it answers until it is dropped.
pub struct Resolver {
    _tasks: JoinSet<()>,
    /// From which the container's own choice of other resolvers is asked: its addresses are as the container sees them.
    dial: Option<Runtime>,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(dial) = self.dial.take() {
            dial.shutdown_background();
        }
    }
}

/// Serves a running container.
///
/// # Errors
/// If its network namespace is gone, or the kernel refuses.
pub async fn serve(networks: &Networks, member: &Member, up: &Up) -> Result<Resolver, Failure> {
    let own = member.request.dns.iter().filter_map(|server| server.parse::<IpAddr>().ok());
    let own: Vec<SocketAddr> = own.map(|server| SocketAddr::new(server, PORT)).collect();
    let has_own = !own.is_empty();
    let (netns, resolv_conf) = (up.netns.clone(), networks.inner.config.resolv_conf.clone());
    let made = tokio::task::spawn_blocking(move || {
        // Without the file, there are no others to ask.
        let conf = std::fs::read_to_string(resolv_conf).unwrap_or_default();
        let dial = has_own.then(|| runtime_in_netns(Some(&netns), 1)).transpose().map_err(|error| error.to_string())?;
        let sockets = resolver_sockets(&netns).map_err(|error| error.to_string())?;
        Ok::<_, String>((sockets, tug_resolver::resolvers(&conf), dial))
    });
    let failed = |error: String| Failure::new(500, format!("starting the container's resolver: {error}"));
    let made = made.await.map_err(|error| failed(error.to_string()))?;
    let ((udp, tcp), host, dial) = made.map_err(failed)?;
    let zone = OfContainer { networks: Arc::downgrade(&networks.inner), container: member.request.id.clone(), has_own };
    let handle = dial.as_ref().map(|runtime| runtime.handle().clone());
    let server = Server::new(Arc::new(zone), if has_own { own } else { host }, handle);
    let sockets = Sockets::new(udp, tcp).map_err(|error| failed(error.to_string()))?;
    let mut tasks = JoinSet::new();
    server.serve(sockets, &mut tasks);
    Ok(Resolver { _tasks: tasks, dial })
}

/// Names as one container sees them.
struct OfContainer {
    networks: Weak<Inner>,
    container: String,
    /// Whether it chose the resolvers that are asked: it may reach these where it reaches nobody else.
    has_own: bool,
}

impl Zone for OfContainer {
    fn answer(&self, query: &Query) -> Answer {
        let Some(networks) = self.networks.upgrade() else { return Answer::Unknown };
        let state = networks.state.lock();
        let Some(member) = state.members.get(&self.container) else { return Answer::Unknown };
        let kind = query.query_type();
        let name = query.name().to_lowercase().to_string();
        let data = match kind {
            RecordType::A | RecordType::AAAA | RecordType::MX => {
                state.resolve(member, name.trim_end_matches('.')).map(|addresses| {
                    addresses.into_iter().filter_map(|address| record_data(address, kind)).collect::<Vec<_>>()
                })
            }
            RecordType::PTR => query.name().parse_arpa_name().ok().and_then(|net| {
                let found = Name::from_ascii(format!("{}.", state.name_of(member, net.addr())?)).ok()?;
                Some(vec![RData::PTR(PTR(found))])
            }),
            _ => None,
        };
        let leads_out = self.has_own || member.up.as_ref().is_some_and(|up| !up.gateways().is_empty());
        match data {
            Some(data) => {
                let record = |data| Record::from_rdata(query.name().clone(), TTL, data);
                Answer::Here(Here { answers: data.into_iter().map(record).collect(), ..Here::default() })
            }
            None if leads_out => Answer::Elsewhere,
            // Who reaches nobody outside doesn't do so by way of names either.
            None => Answer::Unknown,
        }
    }
}

fn record_data(address: IpAddr, kind: RecordType) -> Option<RData> {
    match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    }
}

impl State {
    /// A name may have dots, and so may a network's: `a.b.c` is tried as itself, then as `a.b` in network `c`, and so on.
    fn resolve(&self, member: &Member, name: &str) -> Option<Vec<IpAddr>> {
        let dots = name.char_indices().rev().filter(|(_, letter)| *letter == '.').map(|(place, _)| place);
        let with_network = dots.map(|dot| (&name[..dot], Some(&name[dot + 1..])));
        std::iter::once((name, None)).chain(with_network).find_map(|(name, network)| {
            let asked = |attached: &&Attached| {
                network.is_none_or(|network| attached.network_name.eq_ignore_ascii_case(network))
            };
            member.attached().iter().filter(asked).find_map(|attached| self.resolve_in(attached, name))
        })
    }

    fn resolve_in(&self, own: &Attached, name: &str) -> Option<Vec<IpAddr>> {
        let name = own.links.get(name).map_or(name, String::as_str);
        let named = |attached: &&Attached| attached.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let mut found = self.on(&own.network).map(|(_, attached)| attached).filter(named).peekable();
        found.peek()?;
        let mut addresses: Vec<IpAddr> = found.flat_map(Attached::addresses).map(|net| net.addr()).collect();
        // Clients spread over them by taking the first.
        let first = rand::random_range(0..addresses.len().max(1));
        addresses.rotate_left(first);
        Some(addresses)
    }

    /// `name.network` of an address in one of the container's networks.
    fn name_of(&self, member: &Member, address: IpAddr) -> Option<String> {
        member.attached().iter().find_map(|own| {
            let has = |attached: &Attached| attached.addresses().any(|net| net.addr() == address);
            let (_, found) = self.on(&own.network).find(|(_, attached)| has(attached))?;
            Some(format!("{}.{}", found.names.first()?, own.network_name))
        })
    }
}
