//! Services and EndpointSlices to nftables.
//!
//! Informers feed [`seen`], which knows which Services changed; [`services`] says what the kernel is to hold for each;
//! [`kernel`] changes it in one transaction. Nothing here forwards a packet itself: when the process dies, Services go on.
#![forbid(unsafe_code)]

mod endpoints;
mod kernel;
mod seen;
mod services;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tug_client::{Change, Cluster, Informer};

use kernel::Kernel;
use seen::Seen;
use services::PortRules;

/// After a refusal of the kernel; doubled up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long a connection may take that is being made while its pod is told to stop: some round trips.
const CONNECTING: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_ip: Ipv4Addr,
    /// Traffic to an address in here that no Service owns is refused.
    pub service_cidr: Ipv4Net,
    /// Clients outside of it are masqueraded on their way to a Service.
    pub cluster_cidr: Ipv4Net,
    /// The pods' bridge: Service addresses are routed to it, so that a node without a default route reaches them and
    /// none ever leaves the node.
    pub bridge: Option<String>,
    /// Service addresses that this node has itself (the cluster's DNS): left alone.
    pub local_addresses: Vec<Ipv4Addr>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("starting the service proxy: {0}")]
    Network(#[from] tug_network::Error),
    #[error("a task of the service proxy panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

pub type Result<T> = std::result::Result<T, Error>;

/// How far the kernel is behind what was seen: generations of [`Seen`].
#[derive(Clone, Copy, Default)]
struct Progress {
    seen: u64,
    applied: u64,
}

/// A node's service proxy. It works until it is dropped; its rules outlive it.
pub struct Proxy {
    config: Config,
    shared: Arc<Shared>,
    kernel: Arc<Mutex<Kernel>>,
    task: JoinHandle<()>,
}

struct Shared {
    seen: Mutex<Seen>,
    progress: watch::Sender<Progress>,
}

impl Proxy {
    /// Follows Services and EndpointSlices. Rules that an earlier process left stay in force until the first listing is
    /// in and are then replaced in one step; connections through them live on.
    ///
    /// # Errors
    /// If the kernel has no nftables, the caller lacks `CAP_NET_ADMIN`, or the bridge isn't there.
    pub async fn start(cluster: Cluster, config: Config) -> Result<Self> {
        let prepared = config.clone();
        tokio::task::spawn_blocking(move || prepare(&prepared)).await??;
        let (progress, _) = watch::channel(Progress::default());
        let shared = Arc::new(Shared { seen: Mutex::new(Seen::default()), progress });
        let services = cluster.informers.of::<Service>();
        let slices = cluster.informers.of::<EndpointSlice>();
        shared.follow(&services, Seen::service);
        shared.follow(&slices, Seen::slice);
        let kernel = Arc::new(Mutex::new(Kernel::new(&config)));
        let task = tokio::spawn(apply_changes(shared.clone(), config.clone(), kernel.clone(), services, slices));
        Ok(Self { config, shared, kernel, task })
    }

    /// Returns once the kernel holds the first listing of Services and EndpointSlices.
    pub async fn synced(&self) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives as long as `self`.
        let _ = progress.wait_for(|progress| progress.applied > 0).await;
    }

    /// Returns once the kernel sends no new connection to this pod's address: the newest EndpointSlices seen list it
    /// nowhere as ready, the rules say so too, and connections that were being made are made. At once for an address
    /// that nothing leads to.
    ///
    /// Call it after the pod got its `deletionTimestamp`, with the pod as it was then. The endpoint slice controller
    /// marks its endpoints as terminating; until that is seen here, this waits, for as long as that takes: the caller
    /// bounds it by the pod's grace period. The node's own address is the address of all host-network pods: for it this
    /// returns at once.
    pub async fn dropped(&self, pod: &Pod, address: IpAddr) {
        let IpAddr::V4(address) = address else { return };
        let leads_there = || self.shared.seen.lock().leads_to(pod, address);
        if address == self.config.node_ip || !leads_there() {
            return;
        }
        let mut progress = self.shared.progress.subscribe();
        loop {
            let Progress { seen, .. } = *progress.borrow_and_update();
            if leads_there() {
                if progress.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if progress.wait_for(|progress| progress.applied >= seen).await.is_err() {
                return;
            }
            if !leads_there() {
                break;
            }
        }
        // A client that has gone away amid it leaves a connection that will never be made.
        if tokio::time::timeout(CONNECTING, connected(address)).await.is_err() {
            tracing::debug!(%address, "connections were still being made");
        }
    }

    /// Ends the proxy and removes its rules.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn remove(self) -> Result<()> {
        self.task.abort();
        let kernel = self.kernel.clone();
        // A change that is under way holds the lock; one that comes later finds it closed.
        tokio::task::spawn_blocking(move || kernel.lock().close()).await??;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn follow<K>(self: &Arc<Self>, informer: &Informer<K>, note: fn(&mut Seen, &Change))
    where
        K: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let shared = self.clone();
        informer.subscribe(move |change| {
            let mut seen = shared.seen.lock();
            note(&mut seen, change);
            let generation = seen.generation();
            drop(seen);
            shared.progress.send_modify(|progress| progress.seen = progress.seen.max(generation));
        });
    }
}

/// Returns once no connection to the address is being made. The kernel tells of single connections only to those who
/// listen to all of them, so this looks again, after about a round trip.
async fn connected(address: Ipv4Addr) {
    const ROUND_TRIP: Duration = Duration::from_millis(1);
    loop {
        let looked = tokio::task::spawn_blocking(move || tug_network::conntrack::is_connecting(address)).await;
        match looked {
            Ok(Ok(true)) => tokio::time::sleep(ROUND_TRIP).await,
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => return tracing::warn!(%error, "can't see which connections are being made"),
        }
    }
}

/// What must be there before any rule.
fn prepare(config: &Config) -> tug_network::Result<()> {
    tug_network::nft::tables()?;
    match &config.bridge {
        Some(bridge) => tug_network::links::add_route(config.service_cidr, bridge),
        None => Ok(()),
    }
}

/// The proxy's one loop: waits for changes, takes all that have gathered, and applies them together.
async fn apply_changes(
    shared: Arc<Shared>,
    config: Config,
    kernel: Arc<Mutex<Kernel>>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
) {
    services.synced().await;
    slices.synced().await;
    let mut progress = shared.progress.subscribe();
    let mut whole = true;
    let mut retry = RETRY_LEAST;
    loop {
        let (generation, wanted) = {
            let mut seen = shared.seen.lock();
            let changed = if whole { seen.take_all() } else { seen.take_changed() };
            let wanted: BTreeMap<_, _> =
                changed.into_iter().map(|key| (key.clone(), services::rules(&seen, &key, &config))).collect();
            (seen.generation(), wanted)
        };
        match apply(kernel.clone(), whole, wanted).await {
            Ok(()) => {
                whole = false;
                retry = RETRY_LEAST;
                // At least 1, so that an empty cluster counts as synced.
                shared.progress.send_modify(|progress| progress.applied = generation.max(1));
                if progress.wait_for(|progress| progress.seen > generation).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Whatever the kernel holds now, putting all of it anew ends in the right place.
                tracing::warn!(%error, "service rules refused; putting them all anew");
                whole = true;
                tokio::time::sleep(retry).await;
                retry = (2 * retry).min(RETRY_MOST);
            }
        }
    }
}

type Wanted = BTreeMap<tug_api::ObjectKey, Vec<PortRules>>;

async fn apply(kernel: Arc<Mutex<Kernel>>, whole: bool, wanted: Wanted) -> Result<()> {
    let applied = tokio::task::spawn_blocking(move || {
        let mut kernel = kernel.lock();
        if whole { kernel.replace(wanted) } else { kernel.change(wanted) }
    });
    Ok(applied.await??)
}

#[cfg(test)]
mod tests;
// The network crate's own test namespaces; these two are what it finds at its crate's root.
#[cfg(test)]
#[path = "../../network/src/testing.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod testing;
#[cfg(test)]
use tug_network::{links, netns};
