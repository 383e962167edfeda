//! Cluster DNS on every node, answered from informers.
//!
//! A query for the cluster's domain is answered from [`zone`], which Services, EndpointSlices and Namespaces keep true;
//! any other goes to the upstream resolvers as it came (`tug-resolver`). Names and answers are CoreDNS's with kubeadm's
//! settings: specification 1.1.0, `pods insecure`, TTL 5.
#![forbid(unsafe_code)]

mod answer;
mod names;
mod zone;

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::Query;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tug_client::{Change, Cluster, Informer};
pub use tug_resolver::resolvers;
use tug_resolver::{Answer, Server, Sockets};

use zone::Zone;

#[derive(Clone, Debug)]
pub struct Config {
    /// Each is served over UDP and TCP. The node must have the addresses already.
    pub listen: Vec<SocketAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// Who answers for everything else, tried in order; [`resolvers`] reads them from a `resolv.conf`. With none,
    /// such queries fail.
    pub upstreams: Vec<SocketAddr>,
    /// The runtime that upstreams are asked from, when their addresses mean something in another network namespace.
    pub dial: Option<Handle>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0} is not a domain: {1}")]
    Domain(String, hickory_proto::ProtoError),
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

/// A node's DNS server. It serves until it is dropped.
pub struct Dns {
    synced: Synced,
    /// Holds the listeners' tasks, which end with it.
    _listeners: JoinSet<()>,
}

/// The informers that the zone is made from.
#[derive(Clone)]
struct Synced {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
}

/// The zone, which changes while it is asked.
struct Names(RwLock<Zone>);

impl Dns {
    /// Follows the cluster and answers. Until the first listings are in, names of the cluster answer `SERVFAIL`, which
    /// clients try again, and not `NXDOMAIN`, which they would believe.
    ///
    /// # Errors
    /// If an address can't be listened on, or the domain isn't one.
    pub async fn start(cluster: Cluster, config: Config) -> Result<Self> {
        let zone = Zone::new(&config.domain).map_err(|error| Error::Domain(config.domain.clone(), error))?;
        let names = Arc::new(Names(RwLock::new(zone)));
        let mut upstreams = config.upstreams;
        // Never itself.
        upstreams.retain(|upstream| config.dial.is_some() || !config.listen.contains(upstream));
        let server = Server::new(names.clone(), upstreams, config.dial);
        let mut listeners = JoinSet::new();
        for address in &config.listen {
            let sockets = Sockets::bind(*address).await.map_err(|error| Error::Listen(*address, error))?;
            server.serve(sockets, &mut listeners);
        }
        let synced = Synced {
            services: cluster.informers.of(),
            slices: cluster.informers.of(),
            namespaces: cluster.informers.of(),
        };
        names.follow(&synced.services, Zone::service);
        names.follow(&synced.slices, Zone::slice);
        names.follow(&synced.namespaces, Zone::namespace);
        let waiting = synced.clone();
        listeners.spawn(async move {
            waiting.wait().await;
            names.0.write().open();
        });
        Ok(Self { synced, _listeners: listeners })
    }

    /// Returns once the first listings are in.
    pub async fn synced(&self) {
        self.synced.wait().await;
    }
}

impl Synced {
    async fn wait(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
    }
}

impl tug_resolver::Zone for Names {
    fn answer(&self, query: &Query) -> Answer {
        self.0.read().answer(query)
    }
}

impl Names {
    fn follow<K>(self: &Arc<Self>, informer: &Informer<K>, note: fn(&mut Zone, &Change))
    where
        K: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let names = Arc::downgrade(self);
        informer.subscribe(move |change| {
            if let Some(names) = names.upgrade() {
                note(&mut names.0.write(), change);
            }
        });
    }
}
