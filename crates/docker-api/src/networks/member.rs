//! A container's place in networks: what it asks for, what it has while it runs, and how that is shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tug_network::bridges;

use crate::networks::document::{Document, ShownEndpoint};
use crate::networks::ports::Binding;
use crate::networks::settings::{EndpointSettings, PortBinding, Request, is_user_defined};

/// Ports as inspect shows them: `null` for one that is exposed and not published.
pub type ShownPorts = BTreeMap<String, Option<Vec<PortBinding>>>;

/// A container's document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its `endpoints` are by the networks' names, and change with what it is connected to.
    pub request: Request,
    /// While it runs.
    pub up: Option<Up>,
}

/// What a running container has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Up {
    /// Docker's `SandboxID`.
    pub sandbox: String,
    pub netns: PathBuf,
    pub attached: Vec<Attached>,
    pub bindings: Vec<Binding>,
}

/// An endpoint in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    pub id: String,
    /// The network's id and name.
    pub network: String,
    pub network_name: String,
    /// The link's name in the container; empty when there is none.
    pub link: String,
    pub hardware_address: Option<[u8; 6]>,
    pub ipv4: Option<IpNet>,
    pub ipv6: Option<IpNet>,
    pub link_local: Vec<IpNet>,
    /// Where it leads to the outside, if it does.
    pub gateways: Vec<IpAddr>,
    /// Names that it is known by in the network.
    pub names: Vec<String>,
    /// Names that the container alone knows others by: alias to name.
    pub links: BTreeMap<String, String>,
    pub priority: i64,
    /// Kernel switches of the link that it asks for.
    #[serde(default)]
    pub switches: Vec<(String, String)>,
}

impl Attached {
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4.into_iter().chain(self.ipv6)
    }

    pub fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == ipv6)
    }

    /// What the kernel is to have of it.
    pub fn endpoint(&self, netns: PathBuf) -> bridges::Endpoint {
        bridges::Endpoint {
            id: self.id.clone(),
            inner: self.link.clone(),
            netns,
            hardware_address: self.hardware_address,
            addresses: self.addresses().chain(self.link_local.iter().copied()).collect(),
            gateways: Vec::new(),
            switches: self.switches.clone(),
        }
    }

    pub fn shown_in_network(&self, container: &str, name: &str) -> ShownEndpoint {
        let text = |net: Option<IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        let value = json!({
            "Name": name,
            "EndpointID": self.id,
            "MacAddress": shown_hardware_address(self.hardware_address),
            "IPv4Address": text(self.ipv4),
            "IPv6Address": text(self.ipv6),
        });
        ShownEndpoint { container: container.into(), value }
    }

    fn fill(&self, settings: &mut EndpointSettings) {
        settings.network_id = self.network.clone();
        settings.endpoint_id = self.id.clone();
        settings.mac_address = shown_hardware_address(self.hardware_address);
        if let Some(net) = self.ipv4 {
            settings.ip_address = net.addr().to_string();
            settings.ip_prefix_len = net.prefix_len();
        }
        if let Some(net) = self.ipv6 {
            settings.global_ipv6_address = net.addr().to_string();
            settings.global_ipv6_prefix_len = net.prefix_len();
        }
        let text = |gateway: Option<IpAddr>| gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        settings.gateway = text(self.gateway(false));
        settings.ipv6_gateway = text(self.gateway(true));
    }
}

impl Up {
    /// The endpoint by which a family's packets leave: the greatest priority, then the first by the network's name.
    pub fn leaving(&self, ipv6: bool) -> Option<&Attached> {
        let leads_out = |attached: &&Attached| attached.gateway(ipv6).is_some();
        let rank = |attached: &&Attached| (std::cmp::Reverse(attached.priority), attached.network_name.clone());
        self.attached.iter().filter(leads_out).min_by_key(rank)
    }

    pub fn gateways(&self) -> Vec<IpAddr> {
        [false, true].into_iter().filter_map(|ipv6| self.leaving(ipv6)?.gateway(ipv6)).collect()
    }

    /// A name for one more link: the lowest number that none has.
    pub fn free_link(&self, prefix: &str) -> String {
        let taken = |name: &String| self.attached.iter().any(|attached| attached.link == *name);
        (0..).map(|number| format!("{prefix}{number}")).find(|name| !taken(name)).expect("numbers don't end")
    }

    pub fn has_resolver(&self) -> bool {
        self.attached.iter().any(|attached| !attached.link.is_empty() && is_user_defined(&attached.network_name))
    }
}

impl Member {
    pub fn attached(&self) -> &[Attached] {
        self.up.as_ref().map(|up| up.attached.as_slice()).unwrap_or_default()
    }

    /// `NetworkSettings.Networks`. Before API 1.45 the container's id and host name were among its aliases.
    pub fn shown_networks(&self, version: u32) -> BTreeMap<String, EndpointSettings> {
        let shown = |(name, asked): (&String, &EndpointSettings)| {
            let mut settings = asked.clone();
            if let Some(attached) = self.attached().iter().find(|attached| attached.network_name == *name) {
                attached.fill(&mut settings);
            }
            if version < 45 && is_user_defined(name) {
                let aliases = settings.aliases.get_or_insert_default();
                for alias in [self.request.short_id(), &self.request.hostname] {
                    if !alias.is_empty() && !aliases.iter().any(|own| own == alias) {
                        aliases.push(alias.to_owned());
                    }
                }
            }
            (name.clone(), settings)
        };
        self.request.endpoints.iter().map(shown).collect()
    }

    /// `NetworkSettings.Ports`: nothing while it doesn't run or leads nowhere.
    pub fn shown_ports(&self) -> ShownPorts {
        let mut ports = ShownPorts::new();
        let Some(up) = self.up.as_ref().filter(|up| !up.gateways().is_empty()) else { return ports };
        ports.extend(self.request.exposed.iter().map(|port| (port.clone(), None)));
        ports.extend(self.request.ports.keys().map(|port| (port.clone(), None)));
        for binding in &up.bindings {
            ports.entry(binding.container_port()).or_default().get_or_insert_default().push(binding.shown());
        }
        ports
    }

    /// `NetworkSettings`, with the default bridge's fields a second time, as before API 1.52.
    pub fn shown(&self, version: u32) -> Value {
        let networks = self.shown_networks(version);
        let bridge = networks.get("bridge").cloned().unwrap_or_default();
        let (sandbox, key) = self
            .up
            .as_ref()
            .map_or((String::new(), String::new()), |up| (up.sandbox.clone(), up.netns.display().to_string()));
        json!({
            "Bridge": "",
            "SandboxID": sandbox,
            "SandboxKey": key,
            "Ports": self.shown_ports(),
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
            "EndpointID": bridge.endpoint_id,
            "Gateway": bridge.gateway,
            "GlobalIPv6Address": bridge.global_ipv6_address,
            "GlobalIPv6PrefixLen": bridge.global_ipv6_prefix_len,
            "IPAddress": bridge.ip_address,
            "IPPrefixLen": bridge.ip_prefix_len,
            "IPv6Gateway": bridge.ipv6_gateway,
            "MacAddress": bridge.mac_address,
            "Networks": networks,
        })
    }

    /// Names by which others of the network find it; the first is the one that its address leads back to.
    pub fn names_in(&self, network: &Document, settings: &EndpointSettings) -> Vec<String> {
        if !is_user_defined(&network.name) {
            return Vec::new();
        }
        let request = &self.request;
        let mut names = vec![request.name.clone()];
        names.extend(settings.aliases.iter().flatten().cloned());
        names.extend([request.short_id().to_owned(), request.hostname.clone()]);
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        names
    }
}

fn shown_hardware_address(address: Option<[u8; 6]>) -> String {
    address.map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":")).unwrap_or_default()
}

pub fn parse_hardware_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}
