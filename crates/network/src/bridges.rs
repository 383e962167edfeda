//! Bridge networks as Docker has them: a bridge a network, containers on it by veth pairs, published ports.
//!
//! Everything is in the kernel: what is connected stays so when this process ends, and [`Bridges::restore`] takes it
//! over. Links bear the table's name as their alias, so that what nobody names any more is found and removed.

mod resolver;
mod rules;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::links::{self, Link, Pair};
use crate::pods::Protocol;
use crate::{hosts, netns, sysctl};
pub use resolver::{RESOLVER, resolver_sockets};
use rules::Rules;

/// What the outer ends of containers' links begin with.
const LINK_PREFIX: &str = "tugd";

#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the nftables tables and the alias of the links: `tug-docker`. One engine's own.
    pub table: String,
}

/// One bridge and those who hang on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    /// The bridge's name. A bridge that somebody else made is used and never removed.
    pub bridge: String,
    pub subnets: Vec<Subnet>,
    pub mtu: u32,
    /// Neither reaches the outside and other networks nor is reached from there.
    pub internal: bool,
    /// What leaves the subnets has an address of the host.
    pub masquerade: bool,
    /// Containers of the network reach each other.
    pub icc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub net: IpNet,
    /// The bridge's own address.
    pub gateway: Option<IpAddr>,
}

/// A container's end of its link to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    /// The link's name in the container: `eth0`.
    pub inner: String,
    /// Bind mount of its network namespace.
    pub netns: PathBuf,
    /// `None`: derived from the IPv4 address.
    pub hardware_address: Option<[u8; 6]>,
    /// With their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// Where the container's default routes lead from now on; of a family that isn't here they stay.
    pub gateways: Vec<IpAddr>,
    /// Switches under `/proc/sys/net` with their values: `ipv4/conf/eth0/log_martians`.
    pub switches: Vec<(String, String)>,
}

/// What one container publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The container's id.
    pub id: String,
    pub ports: Vec<PublishedPort>,
}

/// A port of the host that leads to a port of a container. Where the two addresses are not of one family, or the host's
/// is `::1`, the kernel can't do it and nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    pub protocol: Protocol,
    /// `0.0.0.0` and `::` are all of the host's addresses of the family.
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub target: IpAddr,
    pub container_port: u16,
}

/// The bridge networks of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Bridges {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    rules: Rules,
    state: Mutex<State>,
}

/// What the rules are made from.
#[derive(Default)]
struct State {
    networks: BTreeMap<String, Network>,
    publications: BTreeMap<String, Publication>,
}

impl Bridges {
    /// Changes nothing yet: [`Bridges::restore`] does.
    pub fn new(config: Config) -> Self {
        let rules = Rules::new(&config.table);
        Self { inner: Arc::new(Inner { config, rules, state: Mutex::default() }) }
    }

    /// Makes it so that there are these networks, endpoints (by id) and publications and no others. What is connected
    /// stays connected, established connections through published ports too.
    ///
    /// # Errors
    /// If the rules can't be put. A network whose bridge can't be made is left out with a warning, as dockerd does.
    pub async fn restore(
        &self,
        networks: Vec<Network>,
        endpoints: Vec<String>,
        publications: Vec<Publication>,
    ) -> Result<()> {
        self.blocking(move |inner| inner.restore(networks, &endpoints, publications)).await
    }

    /// Makes a network's bridge and its rules; once more changes nothing.
    ///
    /// # Errors
    /// If the kernel refuses; nothing is left of the network then.
    pub async fn add_network(&self, network: &Network) -> Result<()> {
        let network = network.clone();
        self.blocking(move |inner| inner.add_network(network)).await
    }

    /// Removes a network with its bridge, whether or not it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn remove_network(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.blocking(move |inner| inner.remove_network(&id)).await
    }

    /// Links a container to a network. What was left of an endpoint of this id goes first.
    ///
    /// # Errors
    /// If the namespace is gone, the bridge is, or the kernel refuses; nothing is left of the link then.
    pub async fn connect(&self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let (network, endpoint) = (network.clone(), endpoint.clone());
        self.blocking(move |inner| inner.connect(&network, &endpoint)).await
    }

    /// Removes containers' links, whether or not they are there. It takes tens of milliseconds, for many as for one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn disconnect(&self, endpoints: &[String]) -> Result<()> {
        let names: Vec<String> = endpoints.iter().map(|id| link_name(id)).collect();
        self.blocking(move |inner| {
            let group = links::stable_hash(&inner.config.table) as u32 | 1;
            if names.is_empty() { Ok(()) } else { links::delete_together(&names, group) }
        })
        .await
    }

    /// Has a container's default routes lead elsewhere.
    ///
    /// # Errors
    /// If the namespace is gone, or a gateway is in none of its subnets.
    pub async fn route(&self, netns: &Path, gateways: &[IpAddr]) -> Result<()> {
        let (netns, gateways) = (netns.to_owned(), gateways.to_vec());
        self.blocking(move |_| {
            netns::run(&netns::open(&netns)?, || gateways.into_iter().try_for_each(links::add_default_route))
        })
        .await
    }

    /// Publishes a container's ports, in place of those that it published before.
    ///
    /// # Errors
    /// If a port is another container's: errno `EEXIST`. Nothing is published then.
    pub async fn publish(&self, publication: &Publication) -> Result<()> {
        let publication = publication.clone();
        self.blocking(move |inner| inner.publish(publication)).await
    }

    /// Frees a container's ports, whether or not it has any.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn unpublish(&self, container: &str) -> Result<()> {
        let nothing = Publication { id: container.to_owned(), ports: Vec::new() };
        self.publish(&nothing).await
    }

    /// Removes all links and tables: the host is as it was.
    ///
    /// # Errors
    /// The first thing that couldn't be removed.
    pub async fn remove(&self) -> Result<()> {
        self.blocking(Inner::remove).await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| Error::ThreadPanicked)?
    }
}

impl Inner {
    fn restore(&self, networks: Vec<Network>, endpoints: &[String], publications: Vec<Publication>) -> Result<()> {
        let mut state = self.state.lock();
        *state = State::default();
        for network in networks {
            if let Err(error) = self.make_bridge(&network) {
                tracing::warn!(network = network.id, bridge = network.bridge, %error, "a network can't be restored");
                continue;
            }
            state.networks.insert(network.id.clone(), network);
        }
        state.publications = publications.into_iter().map(|found| (found.id.clone(), found)).collect();
        self.rules.replace(&state)?;
        let bridges = state.networks.values().map(|network| network.bridge.clone());
        let kept: HashSet<String> = endpoints.iter().map(|id| link_name(id)).chain(bridges).collect();
        self.sweep(&kept)
    }

    fn add_network(&self, network: Network) -> Result<()> {
        let (id, bridge) = (network.id.clone(), network.bridge.clone());
        let mut state = self.state.lock();
        let made = self.make_bridge(&network).and_then(|()| {
            state.networks.insert(id.clone(), network);
            self.rules.replace(&state)
        });
        if made.is_err() {
            state.networks.remove(&id);
            // What is reported is why it couldn't be made, not why it couldn't be unmade.
            let _ = self.delete_bridge(&bridge);
        }
        made
    }

    fn remove_network(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        let Some(network) = state.networks.remove(id) else {
            return Ok(());
        };
        self.delete_bridge(&network.bridge)?;
        self.rules.replace(&state)
    }

    fn make_bridge(&self, network: &Network) -> Result<()> {
        let bridge = network.bridge.as_str();
        links::make_bridge(bridge, network.mtu)?;
        let found = links::all()?.into_iter().find(|link| link.name == bridge);
        if found.is_some_and(|link| link.alias.is_none() && link.was_made_here()) {
            links::set_alias(bridge, &self.config.table)?;
        }
        if network.subnets.iter().any(|subnet| subnet.net.addr().is_ipv6()) {
            route_ipv6(bridge)?;
        }
        links::set_up(bridge)?;
        for subnet in &network.subnets {
            if let Some(gateway) = subnet.gateway {
                links::add_address(bridge, IpNet::new(gateway, subnet.net.prefix_len()).unwrap_or(subnet.net))?;
            }
        }
        links::forward_on(bridge)?;
        // So that 127.0.0.1 of the host reaches published ports; the rules drop what comes to it from containers.
        sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        if let Err(error) = hosts::accept_links(&[bridge]) {
            tracing::warn!(bridge, %error, "other firewalls of this host may drop containers' traffic");
        }
        Ok(())
    }

    fn delete_bridge(&self, bridge: &str) -> Result<()> {
        hosts::withdraw_links(&[bridge])?;
        if links::all()?.iter().any(|link| link.name == bridge && self.is_ours(link)) {
            links::delete(bridge)?;
        }
        Ok(())
    }

    fn is_ours(&self, link: &Link) -> bool {
        link.alias.as_ref() == Some(&self.config.table)
    }

    /// Removes links of ours but those of these names.
    fn sweep(&self, kept: &HashSet<String>) -> Result<()> {
        for link in links::all()?.iter().filter(|link| self.is_ours(link) && !kept.contains(&link.name)) {
            if !link.name.starts_with(LINK_PREFIX) {
                hosts::withdraw_links(&[&link.name])?;
            }
            links::delete(&link.name)?;
        }
        Ok(())
    }

    fn connect(&self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let (namespace, link) = (netns::open(&endpoint.netns)?, link_name(&endpoint.id));
        links::delete(&link)?;
        let pair = Pair {
            link: &link,
            bridge: &network.bridge,
            inner: &endpoint.inner,
            hardware_address: endpoint.hardware_address.unwrap_or_else(|| hardware_address(endpoint)),
            mtu: network.mtu,
        };
        let made = links::make_pair(&pair, &namespace).and_then(|()| {
            links::set_alias(&link, &self.config.table)?;
            links::set_hairpin(&link)?;
            if !network.icc {
                links::isolate(&link)?;
            }
            netns::run(&namespace, || configure_inner(endpoint))
        });
        if made.is_err() {
            // What is reported is why it couldn't be made, not why it couldn't be unmade.
            let _ = links::delete(&link);
        }
        made
    }

    fn publish(&self, publication: Publication) -> Result<()> {
        let mut state = self.state.lock();
        let before = state.publications.get(&publication.id);
        if before.is_none() && publication.ports.is_empty() {
            return Ok(());
        }
        self.rules.change(before, &publication)?;
        if publication.ports.is_empty() {
            state.publications.remove(&publication.id);
        } else {
            state.publications.insert(publication.id.clone(), publication);
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let mut state = self.state.lock();
        let networks = std::mem::take(&mut state.networks);
        state.publications.clear();
        for network in networks.values() {
            self.delete_bridge(&network.bridge)?;
        }
        self.sweep(&HashSet::new())?;
        self.rules.remove()
    }
}

fn configure_inner(endpoint: &Endpoint) -> Result<()> {
    let inner = endpoint.inner.as_str();
    let has_ipv6 = endpoint.addresses.iter().any(|address| address.addr().is_ipv6());
    // A kernel without IPv6 has no such switches, and no addresses to give.
    if has_ipv6 || sysctl::exists(&format!("ipv6/conf/{inner}")) {
        sysctl::set(&format!("ipv6/conf/{inner}/accept_dad"), "0")?;
        sysctl::set(&format!("ipv6/conf/{inner}/disable_ipv6"), if has_ipv6 { "0" } else { "1" })?;
    }
    if endpoint.hardware_address.is_some() {
        // Neighbours may remember who had the address before.
        sysctl::set(&format!("ipv4/conf/{inner}/arp_notify"), "1")?;
    }
    links::set_up("lo")?;
    links::set_up(inner)?;
    for address in &endpoint.addresses {
        links::add_address(inner, *address)?;
    }
    endpoint.switches.iter().try_for_each(|(switch, value)| sysctl::set(switch, value))?;
    endpoint.gateways.iter().try_for_each(|gateway| links::add_default_route(*gateway))
}

/// Lets this namespace route IPv6 between its links. A router hears no routers: links that got their own routes by
/// advertisement are told to keep on listening.
fn route_ipv6(bridge: &str) -> Result<()> {
    for (switch, value) in [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")] {
        sysctl::set(&format!("ipv6/conf/{bridge}/{switch}"), value)?;
    }
    for link in links::all()? {
        let switch = format!("ipv6/conf/{}/accept_ra", link.name);
        if sysctl::get(&switch).as_deref() == Some("1") {
            sysctl::set(&switch, "2")?;
        }
    }
    sysctl::set("ipv6/conf/all/forwarding", "1")
}

/// Docker's way: whoever has an IPv4 address next is reached at once, where a neighbour remembers who had it before.
fn hardware_address(endpoint: &Endpoint) -> [u8; 6] {
    let ipv4 = endpoint.addresses.iter().find_map(|address| match address.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let [a, b, c, d] = ipv4.unwrap_or_else(|| Ipv4Addr::from(links::stable_hash(&endpoint.id) as u32)).octets();
    [0x02, 0x42, a, b, c, d]
}

/// A link's name has at most 15 bytes: the id's hash stands for it.
fn link_name(id: &str) -> String {
    format!("{LINK_PREFIX}{:011x}", links::stable_hash(id) & 0xfff_ffff_ffff)
}

#[cfg(test)]
mod tests;
