//! Networks are made and removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use crate::networks::document::{Document, Driver, Ipam, Pool, is_predefined};
use crate::networks::ipam::{self, Taken};
use crate::networks::{Networks, kernel, new_id};
use crate::reply::Failure;

/// The body of `POST /networks/create`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Create {
    pub name: String,
    pub driver: String,
    pub scope: String,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_only: bool,
    pub config_from: ConfigFrom,
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigFrom {
    pub network: String,
}

impl Networks {
    /// Makes a network, in the kernel too.
    ///
    /// # Errors
    /// In dockerd's words; nothing is left of it then.
    pub(super) async fn create(&self, asked: Create) -> Result<Arc<Document>, Failure> {
        let forbidden = |words: String| Err(Failure::new(403, words));
        if is_predefined(&asked.name) {
            return forbidden(format!("operation is not permitted on predefined {} network ", asked.name));
        }
        if asked.driver == "overlay" {
            return forbidden(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
                 to swarm and try again."
                    .into(),
            );
        }
        let ipv6 = asked.enable_ipv6.unwrap_or(false);
        if let Some(ipam) = &asked.ipam {
            ipam::check(ipam.config.as_deref().unwrap_or_default(), ipv6)?;
        }
        if asked.name.trim().is_empty() {
            return Err(Failure::new(400, "invalid name: name is empty"));
        }
        let _one_at_a_time = self.inner.making.lock().await;
        if self.inner.state.lock().networks.values().any(|network| network.name == asked.name) {
            return Err(Failure::new(409, format!("network with name {} already exists", asked.name)));
        }
        let mut document = self.document(asked)?;
        if !document.config_only {
            document.pools = self.choose_pools(&document).await?;
            self.check_conflicts(&document)?;
        }
        self.make(document).await
    }

    fn document(&self, asked: Create) -> Result<Document, Failure> {
        let forbidden = |words: &str| Err(Failure::new(403, words));
        if asked.config_only && (asked.ingress || asked.internal || asked.attachable || !asked.scope.is_empty()) {
            return forbidden(
                "configuration network can only contain network specific fields. Network operator fields like [ ingress \
                 | internal | attachable | scope ] are not supported.",
            );
        }
        let from = (!asked.config_from.network.is_empty()).then(|| asked.config_from.network.clone());
        if from.is_some() {
            check_from(&asked)?;
        }
        let driver = driver(&asked)?;
        if asked.ingress {
            return forbidden("Ingress network can only be global scope network");
        }
        if asked.scope == "swarm" {
            return forbidden("cannot create a swarm scoped network when swarm is not active");
        }
        let mut document = Document {
            name: asked.name,
            id: new_id(),
            created: jiff::Timestamp::now(),
            driver,
            ipv4: asked.enable_ipv4.unwrap_or(true),
            ipv6: asked.enable_ipv6.unwrap_or(false),
            ipam: asked.ipam.unwrap_or_default(),
            pools: Vec::new(),
            internal: asked.internal,
            attachable: asked.attachable,
            config_from: from.unwrap_or_default(),
            config_only: asked.config_only,
            options: asked.options,
            labels: asked.labels,
        };
        if document.ipam.driver.is_empty() {
            document.ipam.driver = "default".into();
        }
        if !document.config_from.is_empty() {
            self.configure_from(&mut document)?;
        }
        check_driver(&document)?;
        Ok(document)
    }

    /// Takes over what another network, which is only that, says.
    fn configure_from(&self, document: &mut Document) -> Result<(), Failure> {
        let state = self.inner.state.lock();
        let from = state.networks.values().find(|network| network.config_only && network.name == document.config_from);
        let Some(from) = from else {
            let words = format!("configuration network {:?} does not exist", document.config_from);
            return Err(Failure::new(404, words));
        };
        document.ipv4 = from.ipv4;
        document.ipv6 = from.ipv6;
        document.ipam = from.ipam.clone();
        document.options = from.options.clone();
        for (name, value) in &from.labels {
            document.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }

    async fn choose_pools(&self, document: &Document) -> Result<Vec<Pool>, Failure> {
        if document.driver != Driver::Bridge {
            return Ok(Vec::new());
        }
        let resolv_conf = self.inner.config.resolv_conf.clone();
        let host = tokio::task::spawn_blocking(move || reserved(&resolv_conf)).await;
        let host = host.map_err(|error| Failure::new(500, error.to_string()))??;
        let (networks, seed) = {
            let state = self.inner.state.lock();
            let pools = state.networks.values().flat_map(|network| &network.pools);
            let bridge = state.networks.values().find(|network| network.name == "bridge");
            let seed = bridge.map_or_else(|| document.id.clone(), |bridge| bridge.id.clone());
            (pools.map(|pool| pool.subnet).collect::<Vec<_>>(), seed)
        };
        let taken = Taken { networks: &networks, host: &host, ipv6: ipam::unique_local(&seed) };
        ipam::pools(&document.ipam, document.ipv4, document.ipv6, &taken)
    }

    fn check_conflicts(&self, document: &Document) -> Result<(), Failure> {
        let Some(new) = document.bridge() else { return Ok(()) };
        let state = self.inner.state.lock();
        let other = state.networks.values().filter_map(|network| network.bridge()).find(|old| old.bridge == new.bridge);
        other.map_or(Ok(()), |old| {
            let words = format!(
                "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
                new.id, new.bridge, old.id, old.bridge
            );
            Err(Failure::new(403, words))
        })
    }

    /// On disk first: what is in the kernel then has a document, whenever the daemon dies.
    async fn make(&self, document: Document) -> Result<Arc<Document>, Failure> {
        let inner = &self.inner;
        let document = Arc::new(document);
        inner.keep.network(&document).await?;
        if let Some(network) = document.bridge()
            && let Err(error) = inner.bridges.add_network(&network).await
        {
            inner.keep.remove_network(&document.id).await?;
            return Err(kernel(error));
        }
        inner.state.lock().networks.insert(document.id.clone(), document.clone());
        inner.event("create", &document, None);
        Ok(document)
    }

    /// Removes a network that nobody uses.
    ///
    /// # Errors
    /// In dockerd's words.
    pub(super) async fn delete(&self, term: &str) -> Result<(), Failure> {
        let _one_at_a_time = self.inner.making.lock().await;
        let network = self.find(term)?;
        if network.is_predefined() {
            return Err(Failure::new(403, format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        let failed = |words: String| Err(Failure::new(403, format!("error while removing network: {words}")));
        {
            let mut state = self.inner.state.lock();
            let from = |other: &Arc<Document>| other.config_from == network.name;
            if network.config_only && state.networks.values().any(from) {
                return failed(format!("configuration network {:?} is in use", network.name));
            }
            let active: Vec<String> = state
                .on(&network.id)
                .map(|(member, attached)| {
                    format!("name:{:?} id:{:?}", member.request.name, attached.id.get(..12).unwrap_or_default())
                })
                .collect();
            if !active.is_empty() {
                return failed(format!("network {} has active endpoints ({})", network.name, active.join(", ")));
            }
            state.networks.remove(&network.id);
        }
        self.inner.keep.remove_network(&network.id).await?;
        self.inner.bridges.remove_network(&network.id).await.map_err(kernel)?;
        if !network.config_only {
            self.inner.event("destroy", &network, None);
        }
        Ok(())
    }

    /// Documents of `bridge`, `host` and `none`.
    pub(super) async fn make_predefined(&self) -> Result<(), Failure> {
        for (name, driver) in [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)] {
            if self.inner.state.lock().networks.values().any(|network| network.name == name) {
                continue;
            }
            let is_bridge = driver == Driver::Bridge;
            let mut document = Document {
                name: name.into(),
                id: new_id(),
                created: jiff::Timestamp::now(),
                driver,
                ipv4: true,
                ipam: Ipam { driver: "default".into(), ..Ipam::default() },
                ..Document::default()
            };
            if is_bridge {
                document.options = Document::default_options(&self.inner.config.bridge);
                document.pools = self.choose_pools(&document).await?;
            }
            self.inner.keep.network(&document).await?;
            self.inner.state.lock().networks.insert(document.id.clone(), Arc::new(document));
        }
        Ok(())
    }
}

fn driver(asked: &Create) -> Result<Driver, Failure> {
    if asked.config_only {
        return Ok(Driver::Null);
    }
    match asked.driver.as_str() {
        "" | "default" | "bridge" => Ok(Driver::Bridge),
        "host" | "null" => {
            Err(Failure::new(403, format!("only one instance of {:?} network is allowed", asked.driver)))
        }
        other => {
            let words = format!("could not find plugin {other} in v1 plugin registry: plugin not found");
            Err(Failure::new(404, words))
        }
    }
}

/// A network that takes its configuration from another has none of its own.
fn check_from(asked: &Create) -> Result<(), Failure> {
    let forbidden = |words: &str| Err(Failure::new(403, words));
    if asked.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let own_ipam = asked.ipam.as_ref().is_some_and(|ipam| {
        !matches!(ipam.driver.as_str(), "" | "default")
            || ipam.config.as_ref().is_some_and(|config| !config.is_empty())
            || ipam.options.as_ref().is_some_and(|options| !options.is_empty())
    });
    let own = asked.enable_ipv4 == Some(false) || asked.enable_ipv6 == Some(true) || !asked.labels.is_empty();
    if own || own_ipam {
        return forbidden(
            "user-specified configurations are not supported if the network depends on a configuration network",
        );
    }
    if !asked.options.is_empty() {
        return forbidden("network driver options are not supported if the network depends on a configuration network");
    }
    Ok(())
}

fn check_driver(document: &Document) -> Result<(), Failure> {
    if document.config_only {
        return Ok(());
    }
    if document.ipam.driver != "default" {
        let words = format!("could not find plugin {} in v1 plugin registry: plugin not found", document.ipam.driver);
        return Err(Failure::new(404, words));
    }
    if !document.ipv4 && !document.ipv6 {
        return Err(Failure::new(400, "IPv4 or IPv6 must be enabled"));
    }
    if document.bridge_name().len() > 15 {
        return Err(Failure::new(
            400,
            format!("invalid bridge name {:?}: it has more than 15 bytes", document.bridge_name()),
        ));
    }
    document.wrong_option().map_or(Ok(()), |words| Err(Failure::new(400, words)))
}

/// What the host reaches by itself, and its resolvers: no subnet of ours may hide them.
fn reserved(resolv_conf: &std::path::Path) -> Result<Vec<IpNet>, Failure> {
    let routes = tug_network::links::routes().map_err(kernel)?;
    let addresses = tug_network::links::addresses().map_err(kernel)?;
    let mut reserved: Vec<IpNet> = routes.into_iter().map(IpNet::V4).collect();
    reserved.extend(addresses.into_iter().map(|(_, net)| IpNet::V4(net.trunc())));
    // Without the file, there are none.
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    reserved.extend(tug_resolver::resolvers(&text).into_iter().map(|resolver| IpNet::from(resolver.ip())));
    Ok(reserved)
}
