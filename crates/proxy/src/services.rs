//! What the kernel is to hold for a Service: a value, compared with what it holds.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use tug_api::ObjectKey;
use tug_network::pods::Protocol;

use crate::Config;
use crate::endpoints;
use crate::seen::Seen;

/// Upstream's default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: i32 = 10800;
/// Who bears this label is served by another proxy.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortRules {
    /// `namespace/name/protocol/port name`: what its chains are named after.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) cluster_ips: Vec<Ipv4Addr>,
    /// `externalIPs` and load balancers' addresses.
    pub(crate) external_ips: Vec<Ipv4Addr>,
    pub(crate) node_port: Option<u16>,
    /// For clients within the cluster.
    pub(crate) internal: Vec<(Ipv4Addr, u16)>,
    /// For clients outside of it.
    pub(crate) external: External,
    pub(crate) affinity: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum External {
    /// Any endpoint, with this node's address as the source.
    Cluster(Vec<(Ipv4Addr, u16)>),
    /// This node's own, with the client's address; `all` for clients within the cluster. None here, none elsewhere.
    Local { here: Vec<(Ipv4Addr, u16)>, all: Vec<(Ipv4Addr, u16)> },
}

impl External {
    /// What clients within the cluster get that use an external address.
    pub(crate) fn all(&self) -> &[(Ipv4Addr, u16)] {
        match self {
            Self::Cluster(all) | Self::Local { all, .. } => all,
        }
    }
}

impl PortRules {
    /// Every endpoint that some client may be sent to.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (Ipv4Addr, u16)> {
        let here: &[_] = match &self.external {
            External::Cluster(_) => &[],
            External::Local { here, .. } => here,
        };
        self.internal.iter().chain(self.external.all()).chain(here).copied()
    }
}

/// The rules of a Service's ports; none for one that is gone, headless or an alias.
pub(crate) fn rules(seen: &Seen, key: &ObjectKey, config: &Config) -> Vec<PortRules> {
    let Some(service) = seen.get(key) else {
        return Vec::new();
    };
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let other_proxy = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    if spec.type_.as_deref() == Some("ExternalName") || other_proxy {
        return Vec::new();
    }
    let cluster_ips = cluster_ips(service, config);
    if cluster_ips.is_empty() {
        return Vec::new();
    }
    let ports = spec.ports.iter().flatten();
    ports.filter_map(|port| port_rules(seen, key, service, port, &cluster_ips, config)).collect()
}

fn port_rules(
    seen: &Seen,
    key: &ObjectKey,
    service: &Service,
    port: &ServicePort,
    cluster_ips: &[Ipv4Addr],
    config: &Config,
) -> Option<PortRules> {
    let spec = service.spec.as_ref()?;
    let protocol_name = port.protocol.as_deref().unwrap_or("TCP");
    let protocol = match protocol_name {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let targets = endpoints::targets(seen.slices(key), port, &config.node_name);
    let (all, here) = (endpoints::cluster(&targets), endpoints::local(&targets));
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = configured.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1))
    });
    Some(PortRules {
        name: format!("{key}/{}/{}", protocol_name.to_ascii_lowercase(), port.name.as_deref().unwrap_or_default()),
        protocol,
        port: u16::try_from(port.port).ok()?,
        cluster_ips: cluster_ips.to_vec(),
        external_ips: external_ips(service),
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        internal: if is_local(&spec.internal_traffic_policy) { here.clone() } else { all.clone() },
        external: if is_local(&spec.external_traffic_policy) {
            External::Local { here, all }
        } else {
            External::Cluster(all)
        },
        affinity,
    })
}

/// IPv4 only, for that is what pods have; without those that the node has itself.
fn cluster_ips(service: &Service, config: &Config) -> Vec<Ipv4Addr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut found: Vec<Ipv4Addr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    found.sort();
    found.dedup();
    found.retain(|ip| !config.local_addresses.contains(ip));
    found
}

fn external_ips(service: &Service) -> Vec<Ipv4Addr> {
    let listed = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    // `Proxy` asks that packets go through the balancer even from inside.
    let ingress = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let mut found: Vec<Ipv4Addr> =
        listed.chain(ingress.filter_map(|ingress| ingress.ip.as_ref())).filter_map(|ip| ip.parse().ok()).collect();
    found.sort();
    found.dedup();
    found
}
