//! One container's endpoint on one network: its settings are checked, its addresses chosen, its link made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::networks::document::{Document, Driver};
use crate::networks::member::{Attached, Member, parse_hardware_address};
use crate::networks::settings::{EndpointSettings, is_user_defined};
use crate::networks::{Networks, ipam, kernel, new_id};
use crate::reply::Failure;

/// Names the link in the container.
const OPTION_LINK: &str = "com.docker.network.endpoint.ifname";
/// `net.ipv4.conf.IFNAME.log_martians=1,…`
const OPTION_SWITCHES: &str = "com.docker.network.endpoint.sysctls";

impl Networks {
    /// Who calls this undoes it when it fails: by `detach`, or by leaving all networks.
    pub(super) async fn attach(
        &self,
        id: &str,
        network: &Arc<Document>,
        settings: &EndpointSettings,
    ) -> Result<(), Failure> {
        if network.config_only {
            return Err(Failure::new(403, "cannot create endpoint on configuration-only network"));
        }
        let member = self.inner.member(id)?;
        check_settings(Some(network), &network.name, settings).map_err(|words| Failure::new(400, words))?;
        let (attached, netns) = match self.allocate(&member, network, settings) {
            Ok(allocated) => allocated,
            // What is asked for may be an address of somebody who is leaving.
            Err(_) => {
                self.gone(|leaving| leaving.attached.network == network.id).await;
                self.allocate(&member, network, settings)?
            }
        };
        if let Some(bridge) = network.bridge() {
            self.inner.bridges.connect(&bridge, &attached.endpoint(netns)).await.map_err(kernel)?;
        }
        Ok(())
    }

    /// Chooses a container's addresses on a network and notes them as its own, in one step.
    fn allocate(
        &self,
        member: &Member,
        network: &Arc<Document>,
        settings: &EndpointSettings,
    ) -> Result<(Attached, PathBuf), Failure> {
        let mut state = self.inner.state.lock();
        if !state.networks.contains_key(&network.id) {
            return Err(Failure::new(404, format!("network {} not found", network.name)));
        }
        let used = state.used(&network.id);
        let asked = settings.ipam_config.clone().unwrap_or_default();
        let addresses = [(false, asked.ipv4_address), (true, asked.ipv6_address)];
        let [ipv4, ipv6] = addresses.map(|(ipv6, asked)| address(network, &used, ipv6, &asked));
        let (ipv4, ipv6) = (ipv4?, ipv6?);
        let up = state.members.get_mut(&member.request.id).and_then(|member| member.up.as_mut());
        let up = up.ok_or_else(|| Failure::new(409, format!("container {} is not running", member.request.id)))?;
        let is_bridge = network.driver == Driver::Bridge;
        let link = match option(settings, OPTION_LINK) {
            _ if !is_bridge => String::new(),
            Some(name) => name.to_owned(),
            None => up.free_link(network.link_prefix()),
        };
        let switches = option(settings, OPTION_SWITCHES).map(|text| switches(text, &link).unwrap_or_default());
        let attached = Attached {
            id: new_id(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            link,
            hardware_address: is_bridge.then(|| hardware_address(settings, ipv4)),
            ipv4,
            ipv6,
            link_local: link_local(asked.link_local_ips.as_deref().unwrap_or_default()),
            gateways: if network.internal { Vec::new() } else { network.gateways() },
            names: member.names_in(network, settings),
            links: links(settings.links.as_deref().unwrap_or_default()),
            priority: settings.gw_priority,
            switches: switches.unwrap_or_default(),
        };
        up.attached.push(attached.clone());
        let netns = up.netns.clone();
        if let Some(member) = state.members.get_mut(&member.request.id)
            && let Some(settings) = member.request.endpoints.get_mut(&network.name)
        {
            settings.network_id = network.id.clone();
            settings.dns_names = (!attached.names.is_empty()).then(|| attached.names.clone());
        }
        Ok((attached, netns))
    }

    pub(super) async fn detach(&self, id: &str, network: &Document) -> Result<(), Failure> {
        let member = self.inner.member(id)?;
        for attached in member.attached().iter().filter(|attached| attached.network == network.id) {
            if !attached.link.is_empty() {
                self.inner.bridges.disconnect(std::slice::from_ref(&attached.id)).await.map_err(kernel)?;
            }
            self.inner.change_member(id, |member| {
                member.up.iter_mut().for_each(|up| up.attached.retain(|other| other.id != attached.id));
            });
        }
        Ok(())
    }
}

fn option<'a>(settings: &'a EndpointSettings, name: &str) -> Option<&'a str> {
    settings.driver_opts.as_ref()?.get(name).map(String::as_str)
}

/// Paths under `/proc/sys/net` with their values.
///
/// # Errors
/// The first that is none of a link.
fn switches(text: &str, link: &str) -> Result<Vec<(String, String)>, String> {
    let switch = |entry: &str| {
        let (name, value) = entry.split_once('=')?;
        match name.splitn(5, '.').collect::<Vec<_>>().as_slice() {
            ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind, "IFNAME" | "ifname", switch] => {
                Some((format!("{family}/{kind}/{link}/{}", switch.replace('.', "/")), value.to_owned()))
            }
            _ => None,
        }
    };
    text.split(',').map(|entry| switch(entry).ok_or_else(|| entry.to_owned())).collect()
}

fn address(network: &Document, used: &BTreeSet<IpAddr>, ipv6: bool, asked: &str) -> Result<Option<IpNet>, Failure> {
    let Some(pool) = network.pool(ipv6) else { return Ok(None) };
    let address = match asked.parse::<IpAddr>() {
        Ok(asked) if used.contains(&asked) || pool.is_reserved(asked) => {
            return Err(Failure::new(403, "Address already in use"));
        }
        Ok(asked) => asked,
        Err(_) => pool.free(used).ok_or_else(|| {
            let family = if ipv6 { 6 } else { 4 };
            let words = "addresses on this network's address pools";
            Failure::new(500, format!("no available IPv{family} {words}: {} ({})", network.name, network.id))
        })?,
    };
    Ok(IpNet::new(address, pool.subnet.prefix_len()).ok())
}

/// Docker's way: whoever has an IPv4 address next is reached at once, where a neighbour remembers who had it before.
fn hardware_address(settings: &EndpointSettings, ipv4: Option<IpNet>) -> [u8; 6] {
    if let Some(asked) = parse_hardware_address(&settings.mac_address) {
        return asked;
    }
    let [a, b, c, d] = match ipv4.map(|net| net.addr()) {
        Some(IpAddr::V4(address)) => address.octets(),
        _ => rand::random(),
    };
    [0x02, 0x42, a, b, c, d]
}

fn link_local(addresses: &[String]) -> Vec<IpNet> {
    let net = |address: IpAddr| match address {
        IpAddr::V4(address) => Ipv4Net::new(address, 16).map(IpNet::V4),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map(IpNet::V6),
    };
    addresses.iter().filter_map(|text| net(text.parse().ok()?).ok()).collect()
}

/// `name:alias`, by alias.
fn links(links: &[String]) -> BTreeMap<String, String> {
    let pair = |link: &String| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_lowercase(), name.to_owned())
    };
    links.iter().map(pair).collect()
}

/// What makes no sense in a container's settings for a network, in dockerd's words.
pub(super) fn check_settings(
    network: Option<&Document>,
    name: &str,
    settings: &EndpointSettings,
) -> Result<(), String> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let mut wrong = Vec::new();
    let has_address = !asked.ipv4_address.is_empty() || !asked.ipv6_address.is_empty();
    if !is_user_defined(name) {
        if has_address {
            wrong.push("user-specified IP address is supported on user-defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            wrong.push("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
    }
    for (family, text) in [(4, &asked.ipv4_address), (6, &asked.ipv6_address)] {
        if text.is_empty() {
            continue;
        }
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == (family == 4) && !address.is_unspecified() => {
                let holds = |network: &Document| network.pools.iter().any(|pool| pool.subnet.contains(&address));
                if is_user_defined(name) && network.is_some_and(|network| !holds(network)) {
                    wrong.push(format!("no configured subnet contains IP address {address}"));
                }
            }
            _ => wrong.push(format!("invalid IPv{family} address: {text}")),
        }
    }
    for text in asked.link_local_ips.iter().flatten() {
        if text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()) {
            continue;
        }
        wrong.push(format!("invalid link-local IP address: {text}"));
    }
    if !settings.mac_address.is_empty() && parse_hardware_address(&settings.mac_address).is_none() {
        wrong.push(format!("invalid MAC address: {}", settings.mac_address));
    }
    if let Some(Err(entry)) = option(settings, OPTION_SWITCHES).map(|text| switches(text, "")) {
        wrong.push(format!(
            "unrecognised network interface sysctl '{entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must \
             be 'ipv4', 'ipv6' or 'mpls'"
        ));
    }
    ipam::joined(&wrong).map_or(Ok(()), |lines| Err(format!("invalid endpoint settings:\n{lines}")))
}
