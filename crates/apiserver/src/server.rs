//! The server as a whole: its parts put together, started and stopped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tug_client::Cluster;
use tug_store::Store;

use crate::api::Api;
use crate::auth::{Access, User};
use crate::cache::Cache;
use crate::objects::Objects;
use crate::pki::{self, Pki};
use crate::registry::Registry;
use crate::status::Status;
use crate::{bootstrap, expiry, http_server, local};

/// Changes older than this can't be listed or watched from, as upstream.
const COMPACT_EVERY: Duration = Duration::from_secs(300);
/// How long a stop waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Config {
    /// Each is bound before anything else is done; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// `pki/` is made in here.
    pub data_dir: PathBuf,
    /// Cluster addresses of Services; the first is the API's own.
    pub service_cidr: Ipv4Net,
    pub node_ports: RangeInclusive<u16>,
    /// Where nodes and pods reach this server, at the port of the first of `listen`.
    pub advertise: IpAddr,
    /// Further names and addresses for the serving certificate.
    pub extra_sans: Vec<String>,
    /// Events are deleted this long after they last happened.
    pub event_ttl: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot set up certificates: {0}")]
    Pki(#[from] pki::Error),
    #[error("cannot read the store: {0}")]
    Store(#[from] tug_store::Error),
    #[error("cannot make what a cluster begins with: {0}")]
    Bootstrap(Status),
}

/// A running API server. Stops when told to by [`Server::shutdown`].
pub struct Server {
    api: Arc<Api>,
    addresses: Vec<SocketAddr>,
    tasks: TaskTracker,
}

impl Config {
    /// kubeadm's defaults, on loopback alone.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 6443))],
            data_dir,
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
            node_ports: 30000..=32767,
            advertise: Ipv4Addr::LOCALHOST.into(),
            extra_sans: Vec::new(),
            event_ttl: Duration::from_secs(3600),
        }
    }

    /// Names and addresses of this server, besides those that every cluster's has.
    fn sans(&self) -> Vec<String> {
        let mut sans = vec!["::1".to_owned(), self.advertise.to_string()];
        sans.extend(self.service_cidr.hosts().next().map(|address| address.to_string()));
        let listens = self.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        sans.extend(listens.map(|ip| ip.to_string()));
        sans.extend(self.extra_sans.iter().cloned());
        sans.sort();
        sans.dedup();
        sans
    }
}

// === impl Server ===

impl Server {
    /// Starts a server on the objects in `store`. It answers when this returns.
    ///
    /// # Errors
    /// If an address is taken, or the keys or the store can't be used.
    pub async fn start(config: Config, store: Arc<dyn Store>) -> Result<Arc<Self>, Error> {
        let mut listeners = Vec::new();
        for address in &config.listen {
            let listen = |source| Error::Listen { address: *address, source };
            listeners.push(TcpListener::bind(address).await.map_err(listen)?);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let stop = CancellationToken::new();
        let cache = Arc::new(Cache::new());
        let (dir, sans) = (config.data_dir.join("pki"), config.sans());
        // Making keys and reading the store take about as long; neither needs the other.
        let keys = tokio::task::spawn_blocking(move || Pki::load_or_create(&dir, &sans));
        let (keys, loaded) = tokio::join!(keys, cache.start(store.clone(), stop.clone()));
        loaded?;
        let pki = Arc::new(keys.expect("making keys doesn't panic")?);

        let registry = Arc::new(Registry::new(store.clone(), cache, config.service_cidr, config.node_ports.clone()));
        let objects: Arc<dyn Objects> = registry.clone();
        let access = Arc::new(Access::new(pki.clone(), objects, stop.clone())?);
        let port = addresses.first().map_or(6443, SocketAddr::port);
        let advertise = SocketAddr::new(config.advertise, port);
        let api = Arc::new(Api::new(registry, access.clone(), advertise.to_string(), stop.clone()));
        let tasks = TaskTracker::new();
        let tls = pki.server_config()?;
        for listener in listeners {
            tasks.spawn(http_server::serve(api.clone(), listener, tls.clone(), tasks.clone()));
        }
        tasks.spawn(expiry::run(api.registry.clone(), config.event_ttl, stop.clone()));
        tasks.spawn(compact(store, stop));
        let server = Arc::new(Self { api, addresses, tasks });
        if let Err(status) = bootstrap::ensure(&access, advertise, config.service_cidr).await {
            server.shutdown().await;
            return Err(Error::Bootstrap(status));
        }
        server.api.ready.store(true, Ordering::Release);
        Ok(server)
    }

    /// Where the server listens, in the order of `Config::listen`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The door of a part in this process: requests under `user`'s name, and informers that share the server's objects.
    pub fn cluster(&self, user: User) -> Cluster {
        let user = Arc::new(user);
        Cluster::new(local::client(self.api.clone(), user.clone()), Arc::new(local::Local::new(self.api.clone(), user)))
    }

    pub fn pki(&self) -> &Pki {
        &self.api.access.pki
    }

    pub fn access(&self) -> &Arc<Access> {
        &self.api.access
    }

    /// True once everything that a cluster begins with is there.
    pub fn ready(&self) -> bool {
        self.api.is_ready()
    }

    /// Takes no more requests, ends the watches, and waits a little for what is being answered.
    pub async fn shutdown(&self) {
        self.api.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::info!("some connections were still open");
        }
    }
}

/// Forgets what was overwritten more than five minutes ago.
async fn compact(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut through = store.revision();
    loop {
        tokio::select! {
            () = tokio::time::sleep(COMPACT_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = store.compact(through).await {
            tracing::warn!(%error, "cannot compact the store");
        }
        through = store.revision();
    }
}
