//! A network as it is kept on disk and shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tug_network::bridges;

const OPTION_NAME: &str = "com.docker.network.bridge.name";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const OPTION_NO_ADDRESS: &str = "com.docker.network.bridge.inhibit_ipv4";
const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";
const OPTION_GATEWAY_MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
const OPTION_LINK_PREFIX: &str = "com.docker.network.container_iface_prefix";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const MTU: u32 = 1500;
/// Auxiliary addresses of these names are where the containers' packets leave, in place of the bridge.
const OTHER_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// `IPAM`, as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    pub driver: String,
    pub options: Option<BTreeMap<String, String>>,
    pub config: Option<Vec<IpamConfig>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    #[serde(rename = "Subnet", skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, String>,
}

/// A subnet that the network has, and which of its addresses are not for containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub subnet: IpNet,
    /// Where addresses are chosen from.
    pub range: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// The driver of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    #[default]
    Bridge,
    Host,
    Null,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    pub name: String,
    pub id: String,
    pub created: jiff::Timestamp,
    pub driver: Driver,
    pub ipv4: bool,
    pub ipv6: bool,
    pub ipam: Ipam,
    pub pools: Vec<Pool>,
    pub internal: bool,
    pub attachable: bool,
    pub config_from: String,
    pub config_only: bool,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// One endpoint, as a network's inspection shows it.
pub struct ShownEndpoint {
    pub container: String,
    pub value: Value,
}

impl Document {
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// As list and inspect show it.
    pub fn shown(&self, endpoints: Vec<ShownEndpoint>) -> Value {
        let containers: serde_json::Map<_, _> =
            endpoints.into_iter().map(|endpoint| (endpoint.container, endpoint.value)).collect();
        json!({
            "Name": self.name,
            "Id": self.id,
            "Created": self.created.to_string(),
            "Scope": "local",
            "Driver": self.driver.name(),
            "EnableIPv4": self.ipv4,
            "EnableIPv6": self.ipv6,
            "IPAM": { "Driver": self.ipam.driver, "Options": self.ipam.options, "Config": self.shown_pools() },
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": false,
            "ConfigFrom": { "Network": self.config_from },
            "ConfigOnly": self.config_only,
            "Containers": containers,
            "Options": self.options,
            "Labels": self.labels,
        })
    }

    fn shown_pools(&self) -> Option<Vec<IpamConfig>> {
        if self.config_only {
            return self.ipam.config.clone();
        }
        let shown = |pool: &Pool| IpamConfig {
            subnet: pool.subnet.to_string(),
            ip_range: pool.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: pool.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            auxiliary: pool.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
        };
        (!self.pools.is_empty()).then(|| self.pools.iter().map(shown).collect())
    }

    /// What the kernel is to have of it; `None` when that is nothing.
    pub fn bridge(&self) -> Option<bridges::Network> {
        if self.driver != Driver::Bridge || self.config_only {
            return None;
        }
        let no_address = self.flag(OPTION_NO_ADDRESS, false);
        let subnet = |pool: &Pool| bridges::Subnet {
            net: pool.subnet,
            gateway: pool.gateway.filter(|gateway| gateway.is_ipv6() || !no_address),
        };
        Some(bridges::Network {
            id: self.id.clone(),
            bridge: self.bridge_name(),
            subnets: self.pools.iter().map(subnet).collect(),
            mtu: self.options.get(OPTION_MTU).and_then(|mtu| mtu.parse().ok()).filter(|mtu| *mtu > 0).unwrap_or(MTU),
            internal: self.internal,
            masquerade: self.flag(OPTION_MASQUERADE, true),
            icc: self.flag(OPTION_ICC, true),
        })
    }

    pub fn bridge_name(&self) -> String {
        let given = self.options.get(OPTION_NAME).filter(|name| !name.is_empty());
        given.cloned().unwrap_or_else(|| format!("br-{}", self.id.get(..12).unwrap_or(&self.id)))
    }

    /// Where ports are published that don't say where.
    pub fn binding_address(&self) -> Option<IpAddr> {
        self.options.get(OPTION_BINDING).and_then(|address| address.parse().ok())
    }

    /// Where containers' packets leave, a family each.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let of_pool = |pool: &Pool| {
            let other = OTHER_GATEWAYS[usize::from(pool.subnet.addr().is_ipv6())];
            pool.auxiliary.get(other).copied().or(pool.gateway)
        };
        self.pools.iter().filter_map(of_pool).collect()
    }

    /// What containers' links are named with.
    pub fn link_prefix(&self) -> &str {
        self.options.get(OPTION_LINK_PREFIX).filter(|prefix| !prefix.is_empty()).map_or("eth", String::as_str)
    }

    fn flag(&self, option: &str, default: bool) -> bool {
        self.options.get(option).and_then(|value| parse_flag(value)).unwrap_or(default)
    }

    pub fn pool(&self, ipv6: bool) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.addr().is_ipv6() == ipv6)
    }

    /// The options of the default bridge.
    pub fn default_options(bridge: &str) -> BTreeMap<String, String> {
        [
            (OPTION_DEFAULT, "true"),
            (OPTION_ICC, "true"),
            (OPTION_MASQUERADE, "true"),
            (OPTION_BINDING, "0.0.0.0"),
            (OPTION_NAME, bridge),
            (OPTION_MTU, "1500"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// What is wrong with the options, in dockerd's words.
    pub fn wrong_option(&self) -> Option<String> {
        let wrong =
            |name: &str, value: &str, why: String| Some(format!("failed to parse {name} value: {value} ({why})"));
        for (name, value) in &self.options {
            let found = match name.as_str() {
                OPTION_ICC | OPTION_MASQUERADE | OPTION_NO_ADDRESS | OPTION_DEFAULT if parse_flag(value).is_none() => {
                    wrong(name, value, format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))
                }
                OPTION_MTU if value.parse::<i64>().is_err() => {
                    wrong(name, value, format!("strconv.Atoi: parsing {value:?}: invalid syntax"))
                }
                OPTION_MTU if value.starts_with('-') => Some(format!("invalid MTU number: {value}")),
                mode if OPTION_GATEWAY_MODES.contains(&mode) && value != "nat" => {
                    // Packets of this network are translated; a mode that says otherwise would not hold.
                    wrong(name, value, format!("unknown gateway mode {value}"))
                }
                OPTION_BINDING if value.parse::<IpAddr>().is_err() => wrong(name, value, "nil ip".into()),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// As Go's `strconv.ParseBool`.
fn parse_flag(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
