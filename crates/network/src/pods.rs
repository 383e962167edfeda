//! The pod network of one node: a bridge, an address for each sandbox from the node's range, masquerade and host ports.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
}
