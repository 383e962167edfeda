//! What clients say and are shown of a container's place in networks, with Docker's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `NetworkingConfig.EndpointsConfig` of one network, and what inspect shows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    pub links: Option<Vec<String>>,
    pub aliases: Option<Vec<String>>,
    pub mac_address: String,
    pub driver_opts: Option<BTreeMap<String, String>>,
    pub gw_priority: i64,
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
    pub link_local_ips: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    pub host_ip: String,
    pub host_port: String,
}

/// By `80/tcp`.
pub type PortBindings = BTreeMap<String, Vec<PortBinding>>;

/// What a container asks of networks, from its creation on. Kept on disk with what it has of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    pub id: String,
    /// Without the slash that Docker shows before it.
    pub name: String,
    pub hostname: String,
    pub domainname: String,
    /// `HostConfig.NetworkMode`: empty and `default` are `bridge`.
    pub mode: String,
    /// `NetworkingConfig.EndpointsConfig`.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// `Config.MacAddress`, of API versions before 1.44.
    pub mac_address: String,
    /// `HostConfig.PortBindings`.
    pub ports: PortBindings,
    /// Keys of `Config.ExposedPorts`, those of the image among them.
    pub exposed: Vec<String>,
    pub publish_all: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `name:address`, or `name:host-gateway`.
    pub extra_hosts: Vec<String>,
    /// `HostConfig.Links`: `container:alias`, of the default bridge.
    pub links: Vec<String>,
    /// Where the container's `hosts` and `resolv.conf` are written.
    pub dir: std::path::PathBuf,
}

/// How a container is joined to networks, by its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    Host,
    None,
    /// In another container's network namespace.
    Container(&'a str),
    /// On a bridge, which has this name or id.
    Network(&'a str),
}

impl Request {
    pub fn mode(&self) -> Mode<'_> {
        match self.mode.as_str() {
            "" | "default" => Mode::Network("bridge"),
            "host" => Mode::Host,
            "none" => Mode::None,
            other => match other.strip_prefix("container:") {
                Some(container) => Mode::Container(container),
                None => Mode::Network(other),
            },
        }
    }

    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Neither one of the predefined networks nor a container's.
pub fn is_user_defined(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "host" | "none") && !network.starts_with("container:")
}

impl EndpointSettings {
    /// Without what it only has while the container runs.
    pub fn cleaned(&self) -> Self {
        Self {
            ipam_config: self.ipam_config.clone(),
            links: self.links.clone(),
            aliases: self.aliases.clone(),
            driver_opts: self.driver_opts.clone(),
            gw_priority: self.gw_priority,
            network_id: self.network_id.clone(),
            dns_names: self.dns_names.clone(),
            ..Self::default()
        }
    }
}
