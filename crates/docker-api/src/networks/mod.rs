//! Networks as Docker has them: bridges with addresses and names, and the containers that are on them.
//!
//! [`Networks`] keeps a document for each network and for each container's place in them; what is in the kernel follows
//! from these. The daemon's other parts say when a container comes, starts, stops and goes, and ask what to show of it.

mod attach;
mod create;
mod document;
mod endpoints;
mod files;
mod filters;
mod ipam;
mod keep;
mod leaving;
mod member;
mod names;
mod pass;
mod ports;
mod routes;
mod settings;
mod ways;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tug_network::bridges::{Bridges, Config as BridgesConfig, Publication, RESOLVER};

use crate::reply::Failure;
use document::Document;
use keep::Keep;
use leaving::Leaving;
pub use member::ShownPorts;
use member::{Attached, Member};
use ports::HostPorts;
pub use routes::{Call, Find};
pub use settings::{EndpointIpam, EndpointSettings, Mode, PortBinding, PortBindings, Request, is_user_defined};
use ways::Tasks;

const USUAL_DIR: &str = "/var/lib/tug/engine";

#[derive(Clone, Debug)]
pub struct Config {
    /// Where documents are kept.
    pub dir: PathBuf,
    /// The name of this engine's nftables tables, and what its links bear as their alias.
    pub table: String,
    /// The default network's bridge.
    pub bridge: String,
    /// The host's, which containers get their own from.
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
}

impl Config {
    /// What an engine with this data directory uses: the directory's name tells engines of one host apart.
    pub fn of_engine(data_dir: &Path) -> Self {
        let name = if data_dir == Path::new(USUAL_DIR) { "tug-docker".to_owned() } else { name_of(data_dir) };
        Self {
            dir: data_dir.join("networks"),
            bridge: format!("{name}0"),
            table: name,
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
        }
    }
}

/// `tug-` and eight digits that follow from the path.
fn name_of(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("tug-{digits}")
}

/// Tells others of an event of type `network`: its action, the network's id, attributes.
pub type Tell = Arc<dyn Fn(&str, &str, BTreeMap<String, String>) + Send + Sync>;

#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The container's own.
    pub addresses: Vec<IpAddr>,
    /// What answers for names in its network namespace, where it is on a network that has them.
    pub resolver: Option<IpAddr>,
    /// Addresses of those that it is linked to on the default bridge, with their names.
    pub links: Vec<(IpAddr, Vec<String>)>,
}

/// A container that there is when the daemon starts.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: String,
    /// Its network namespace, if it runs.
    pub netns: Option<PathBuf>,
}

/// All networks of an engine. Cheap to clone.
#[derive(Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    bridges: Bridges,
    tell: Tell,
    keep: Keep,
    host_ports: Arc<HostPorts>,
    /// One network is made or removed at a time.
    making: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Told whenever links of containers that have left are gone.
    left: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    networks: BTreeMap<String, Arc<Document>>,
    members: BTreeMap<String, Member>,
    /// Endpoints of containers that have left, whose links aren't gone yet: their addresses are nobody's until then.
    leaving: Vec<Leaving>,
    /// One start, stop or change of a container's networks at a time, and what runs for it here.
    turns: HashMap<String, Arc<tokio::sync::Mutex<Tasks>>>,
}

impl Networks {
    /// Reads what is kept, and makes the predefined networks' documents where there are none. Changes nothing in the
    /// kernel: [`Networks::restore`] does.
    ///
    /// # Errors
    /// If the documents can't be read or written.
    pub async fn open(config: Config, tell: Tell) -> Result<Self, Failure> {
        let keep = Keep::new(&config.dir);
        let (networks, members) = keep.read().await?;
        let state = State {
            networks: networks.into_iter().map(|network: Document| (network.id.clone(), Arc::new(network))).collect(),
            members: members.into_iter().map(|member: Member| (member.request.id.clone(), member)).collect(),
            ..State::default()
        };
        let inner = Inner {
            bridges: Bridges::new(BridgesConfig { table: config.table.clone() }),
            config,
            tell,
            keep,
            host_ports: Arc::default(),
            making: Default::default(),
            state: Mutex::new(state),
            left: watch::Sender::new(()),
        };
        let networks = Self { inner: Arc::new(inner) };
        networks.make_predefined().await?;
        Ok(networks)
    }

    /// Takes back what is in the kernel for these containers and makes what should be there and is not; what no document
    /// names goes. Documents of other containers are forgotten.
    ///
    /// # Errors
    /// If the kernel refuses the rules.
    pub async fn restore(&self, containers: &[Found]) -> Result<(), Failure> {
        let inner = &self.inner;
        let found: HashMap<&str, &Found> = containers.iter().map(|found| (found.id.as_str(), found)).collect();
        let known: Vec<String> = inner.state.lock().members.keys().cloned().collect();
        for id in known {
            match found.get(id.as_str()) {
                None => self.forget(&id).await?,
                Some(Found { netns: None, .. }) => inner.change_member(&id, |member| member.up = None),
                Some(Found { netns: Some(netns), .. }) => inner.change_member(&id, |member| {
                    member.up.iter_mut().for_each(|up| up.netns.clone_from(netns));
                }),
            }
        }
        let (networks, members) = {
            let state = inner.state.lock();
            let members: Vec<Member> = state.members.values().filter(|member| member.up.is_some()).cloned().collect();
            (state.networks.values().filter_map(|network| network.bridge()).collect(), members)
        };
        let endpoints = members.iter().flat_map(Member::attached).map(|attached| attached.id.clone()).collect();
        let publications = members.iter().map(ways::publication).filter(|found| !found.ports.is_empty());
        let publications: Vec<Publication> = publications.collect();
        inner.bridges.restore(networks, endpoints, publications).await.map_err(kernel)?;
        for member in members {
            self.take_back(&member).await;
        }
        for found in containers {
            // One whose document of this an earlier daemon didn't come to write.
            let Some(netns) = &found.netns else { continue };
            if inner.member(&found.id).is_ok_and(|member| member.up.is_none())
                && let Err(failure) = self.start(&found.id, netns).await
            {
                tracing::warn!(container = found.id, error = failure.message, "its networks are gone");
            }
        }
        Ok(())
    }

    /// Removes everything from the kernel; documents stay.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn remove(&self) -> Result<(), Failure> {
        self.gone(|_| true).await;
        self.inner.bridges.remove().await.map_err(kernel)
    }

    /// By id, name, or what an id begins with.
    ///
    /// # Errors
    /// In dockerd's words when there is none, or more than one.
    fn find(&self, term: &str) -> Result<Arc<Document>, Failure> {
        self.inner.state.lock().find(term)
    }

    /// `NetworkSettings` of a container's inspection.
    pub fn settings(&self, container: &str, version: u32) -> Value {
        let state = self.inner.state.lock();
        state.members.get(container).map_or_else(|| Member::default().shown(version), |member| member.shown(version))
    }

    /// What a running container's files say of its networks, for who writes them without [`Request::dir`].
    pub fn told(&self, container: &str) -> Told {
        let Ok(member) = self.inner.member(container) else { return Told::default() };
        let has_resolver = member.up.as_ref().is_some_and(|up| up.has_resolver());
        Told {
            addresses: member.attached().iter().flat_map(Attached::addresses).map(|net| net.addr()).collect(),
            resolver: has_resolver.then_some(IpAddr::V4(RESOLVER)),
            links: self.linked(&member),
        }
    }

    /// `NetworkSettings.Networks`: what the list of containers shows.
    pub fn networks_of(&self, container: &str, version: u32) -> BTreeMap<String, EndpointSettings> {
        let state = self.inner.state.lock();
        state.members.get(container).map(|member| member.shown_networks(version)).unwrap_or_default()
    }

    /// `NetworkSettings.Ports`.
    pub fn ports_of(&self, container: &str) -> ShownPorts {
        let state = self.inner.state.lock();
        state.members.get(container).map(Member::shown_ports).unwrap_or_default()
    }

    /// Whether a container is on this network (by name or id), running or not: the filter `network` of the list.
    pub fn is_on(&self, container: &str, network: &str) -> bool {
        let state = self.inner.state.lock();
        let Some(member) = state.members.get(container) else { return false };
        let Ok(network) = state.find(network) else { return false };
        member.request.endpoints.contains_key(&network.name)
    }
}

impl State {
    fn find(&self, term: &str) -> Result<Arc<Document>, Failure> {
        if let Some(network) = self.networks.get(term) {
            return Ok(network.clone());
        }
        if let Some(network) = self.networks.values().find(|network| network.name == term) {
            return Ok(network.clone());
        }
        let fitting: Vec<_> = self.networks.values().filter(|network| network.id.starts_with(term)).collect();
        match fitting.as_slice() {
            [network] if !term.is_empty() => Ok((*network).clone()),
            [_, _, ..] if !term.is_empty() => {
                let many = fitting.len();
                let words = format!("network {term} is ambiguous ({many} matches found based on ID prefix)");
                Err(Failure::new(400, words))
            }
            _ => Err(Failure::new(404, format!("network {term} not found"))),
        }
    }

    /// Endpoints in use on a network, with their containers.
    fn on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (&'a Member, &'a Attached)> {
        let of = move |member: &'a Member| member.attached().iter().map(move |attached| (member, attached));
        self.members.values().flat_map(of).filter(move |(_, attached)| attached.network == network)
    }

    /// Addresses in use on a network.
    fn used(&self, network: &str) -> BTreeSet<IpAddr> {
        let leaving = self.leaving.iter().map(|leaving| &leaving.attached).filter(|left| left.network == network);
        let on = self.on(network).map(|(_, attached)| attached);
        on.chain(leaving).flat_map(Attached::addresses).map(|net| net.addr()).collect()
    }
}

impl Inner {
    fn change_member(&self, id: &str, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.state.lock().members.get_mut(id) {
            change(member);
        }
    }

    fn member(&self, id: &str) -> Result<Member, Failure> {
        let member = self.state.lock().members.get(id).cloned();
        member.ok_or_else(|| Failure::new(404, format!("No such container: {id}")))
    }

    fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<Tasks>> {
        self.state.lock().turns.entry(id.to_owned()).or_default().clone()
    }

    fn event(&self, action: &str, network: &Document, container: Option<&str>) {
        let mut attributes: BTreeMap<String, String> =
            [("name", network.name.as_str()), ("type", network.driver.name())]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        attributes.extend(container.map(|container| ("container".to_owned(), container.to_owned())));
        (self.tell)(action, &network.id, attributes);
    }
}

fn kernel(error: tug_network::Error) -> Failure {
    Failure::new(500, error.to_string())
}

/// An id as Docker makes them.
fn new_id() -> String {
    rand::random::<[u8; 32]>().map(|byte| format!("{byte:02x}")).concat()
}

#[cfg(test)]
mod tests;
