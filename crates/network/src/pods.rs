//! The pod network of one node: a bridge, an address for each sandbox from the node's range, masquerade and host ports.
//!
//! A pod has its address as a /32 and one neighbour, the bridge. Whatever it sends goes through this node's IP stack,
//! packets to pods on the same bridge too: Services between them work whether or not `bridge-nf-call-iptables` shows
//! bridged packets to nftables.

mod leases;
mod ports;

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::links::{self, Connection};
use crate::{hosts, netns, sysctl};
use leases::Leases;
use ports::Rules;

/// What the outer ends of pods' links begin with.
const LINK_PREFIX: &str = "tugv";

/// How this node's pods are connected.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bridge that pods are attached to, such as `tug-pods`.
    pub bridge: String,
    /// This node's part of the pods' range: `10.244.0.0/24`; the bridge has its first address.
    pub node_cidr: Ipv4Net,
    /// All nodes' pods: traffic to it is never masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// Where leases of addresses are kept across restarts.
    pub state_dir: PathBuf,
    pub mtu: u32,
}

/// A sandbox to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The sandbox's id; attaching it again gives the same address.
    pub id: String,
    /// Bind mount of its network namespace.
    pub netns: PathBuf,
    pub ports: Vec<HostPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    pub protocol: Protocol,
    /// All of the node's addresses when `None`.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As in an IP header.
    pub(crate) fn number(self) -> u8 {
        let number = match self {
            Self::Tcp => libc::IPPROTO_TCP,
            Self::Udp => libc::IPPROTO_UDP,
            Self::Sctp => libc::IPPROTO_SCTP,
        };
        number as u8
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
}

/// A node's pods and their addresses. Cheap to clone.
#[derive(Clone)]
pub struct PodNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    gateway: Ipv4Addr,
    rules: Rules,
    leases: Mutex<Leases>,
}

impl PodNetwork {
    /// Makes the bridge and its rules, or takes over what an earlier process left: attached pods stay attached.
    ///
    /// # Errors
    /// If the kernel lacks bridges or nftables, the caller lacks `CAP_NET_ADMIN`, or leases can't be read.
    pub async fn open(config: Config) -> Result<Self> {
        blocking(move || {
            let gateway = Ipv4Addr::from(u32::from(config.node_cidr.network()) + 1);
            let address = Ipv4Net::new(gateway, config.node_cidr.prefix_len()).expect("the range's own prefix");
            links::ensure_bridge(&config.bridge, address, config.mtu)?;
            links::forward_on(&config.bridge)?;
            // So that 127.0.0.1 of the node reaches host ports; the rules drop what comes to it from pods.
            sysctl::set(&format!("ipv4/conf/{}/route_localnet", config.bridge), "1")?;
            let leases = Leases::open(config.state_dir.join("leases"), config.node_cidr)?;
            let rules = Rules::new(&config);
            rules.replace(leases.iter())?;
            if let Err(error) = hosts::accept_links(&[&config.bridge]) {
                tracing::warn!(%error, "other firewalls of this host may drop pods' traffic");
            }
            Ok(Self { inner: Arc::new(Inner { config, gateway, rules, leases: Mutex::new(leases) }) })
        })
        .await
    }

    /// Connects a sandbox. Attaching a connected one again changes nothing.
    ///
    /// # Errors
    /// If the range is exhausted, the namespace is gone, or a host port is another sandbox's.
    pub async fn attach(&self, attachment: &Attachment) -> Result<Attached> {
        let (inner, attachment) = (self.inner.clone(), attachment.clone());
        blocking(move || inner.attach(&attachment)).await
    }

    /// Disconnects a sandbox and frees its address, whether or not it is connected.
    ///
    /// # Errors
    /// If the kernel refuses, or the lease can't be removed.
    pub async fn detach(&self, id: &str) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        blocking(move || inner.detach(&id)).await
    }

    /// Disconnects every sandbox but those in `live`: what a crash left behind.
    ///
    /// # Errors
    /// As [`PodNetwork::detach`].
    pub async fn sync(&self, live: impl IntoIterator<Item = String>) -> Result<()> {
        let (inner, live) = (self.inner.clone(), live.into_iter().collect());
        blocking(move || inner.sync(&live)).await
    }

    /// The address of a sandbox that is attached.
    pub fn address_of(&self, id: &str) -> Option<Ipv4Addr> {
        self.inner.leases.lock().address_of(id)
    }

    /// The bridge's address in the pods' range.
    pub fn gateway(&self) -> Ipv4Addr {
        self.inner.gateway
    }

    /// Gives the bridge one more address, such as that of the cluster's DNS.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn add_address(&self, address: Ipv4Net) -> Result<()> {
        let bridge = self.inner.config.bridge.clone();
        blocking(move || links::add_address(&bridge, address)).await
    }

    /// Removes links, rules and leases: the host is as it was.
    ///
    /// # Errors
    /// The first thing that couldn't be removed.
    pub async fn remove(&self) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || {
            inner.sync(&HashSet::new())?;
            inner.rules.remove()?;
            hosts::withdraw_links(&[&inner.config.bridge])?;
            links::delete(&inner.config.bridge)
        })
        .await
    }
}

impl Inner {
    fn attach(&self, attachment: &Attachment) -> Result<Attached> {
        let namespace = netns::open(&attachment.netns)?;
        let (address, known) = {
            let mut leases = self.leases.lock();
            let known = leases.address_of(&attachment.id).is_some();
            (leases.take(attachment)?, known)
        };
        let connected = self.connect(address, attachment, &namespace);
        if connected.is_err() && !known {
            // What is reported is why it couldn't be attached.
            let _ = links::delete(&link_name(&attachment.id)).and_then(|()| self.leases.lock().release(&attachment.id));
        }
        connected.map(|()| Attached { address, gateway: self.gateway })
    }

    fn connect(&self, address: Ipv4Addr, attachment: &Attachment, namespace: &File) -> Result<()> {
        let link = link_name(&attachment.id);
        let connected = links::index(&link).is_ok() && netns::run(namespace, move || links::inner_has(address))?;
        if !connected {
            links::delete(&link)?;
            let connection = Connection {
                link: &link,
                bridge: &self.config.bridge,
                address: Ipv4Net::from(address),
                gateway: self.gateway,
                mtu: self.config.mtu,
            };
            links::connect(&connection, namespace)?;
        }
        self.rules.add(address, attachment)
    }

    fn detach(&self, id: &str) -> Result<()> {
        links::delete(&link_name(id))?;
        let held = self.leases.lock().iter().find(|(_, held)| held.id == id).map(|(at, held)| (at, held.clone()));
        let Some((address, attachment)) = held else {
            return Ok(());
        };
        // Before the lease goes, for then the address and the host ports may be another's.
        let deleted = self.rules.delete(address, &attachment);
        let mut leases = self.leases.lock();
        leases.release(id)?;
        if let Err(error) = deleted {
            // Something else changed the table, or a crash left it behind its leases.
            tracing::warn!(%error, "putting the pod network's rules anew");
            self.rules.replace(leases.iter())?;
        }
        Ok(())
    }

    fn sync(&self, live: &HashSet<String>) -> Result<()> {
        let gone: Vec<String> = {
            let leases = self.leases.lock();
            leases.iter().map(|(_, held)| held.id.clone()).filter(|id| !live.contains(id)).collect()
        };
        for id in gone {
            self.detach(&id)?;
        }
        let kept: HashSet<String> = live.iter().map(|id| link_name(id)).collect();
        for port in links::ports(&self.config.bridge)? {
            if port.starts_with(LINK_PREFIX) && !kept.contains(&port) {
                links::delete(&port)?;
            }
        }
        Ok(())
    }
}

/// A link's name has at most 15 bytes: the id's hash stands for it.
fn link_name(id: &str) -> String {
    format!("{LINK_PREFIX}{:010x}", links::stable_hash(id) & 0xff_ffff_ffff)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::ThreadPanicked)?
}

#[cfg(test)]
mod tests;
