//! `tug server`: the control plane and a node in one process. Starts each part with its own identity, in the order in
//! which they need one another, says when all is ready, and stops them on SIGTERM; containers live on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Pod};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tug_apiserver::auth::User;
use tug_apiserver::pki::Pki;
use tug_client::{Informer, Scope};
use tug_controllers::{Controllers, Identity};
use tug_dns::Dns;
use tug_engine::Engine;
use tug_kubelet::{Drained, EngineRuntime, Kubelet};
use tug_network::pods::PodNetwork;
use tug_proxy::Proxy;
use tug_scheduler::Scheduler;

use crate::cli::ServerArgs;
use crate::config::ServerConfig;
use crate::lock;
use crate::notify::Notifier;
use crate::preflight;

/// What `kubectl version` and nodes show.
pub const KUBERNETES_VERSION: &str = "v1.36.0";
/// The bridge that this node's pods hang on.
const POD_BRIDGE: &str = "tug-pods";
const RUN_DIR: &str = "/run/tug";
/// Shims' sockets and configurations, the containers' namespaces.
const ENGINE_RUN_DIR: &str = "/run/tug/engine";
const KUBELET_PORT: u16 = 10250;
/// Of the default route's link in most places; a machine's own link has at most this.
const ETHERNET_MTU: u32 = 1500;
/// The admin's certificate is made anew at each start.
const ADMIN_CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

pub fn run(args: ServerArgs) -> Result<ExitCode> {
    preflight::require_root("server")?;
    let ended = run_until_told(args);
    if let Err(error) = &ended {
        Notifier::from_environment().failed(&format!("{error:#}"));
    }
    ended.map(|()| ExitCode::SUCCESS)
}

fn run_until_told(args: ServerArgs) -> Result<()> {
    // What `ps` shows; the name of the file may be anything.
    std::fs::write("/proc/self/comm", "tug-server").context("naming the process")?;
    start_logging();
    raise_open_files()?;
    install_crypto();
    let config = ServerConfig::decide(args)?;
    preflight::require_space(&config.data_dir)?;
    std::fs::create_dir_all(RUN_DIR).with_context(|| format!("making {RUN_DIR}"))?;
    let _locks = [lock::hold(&config.data_dir)?, lock::hold(Path::new(RUN_DIR))?];
    if config.dial_netns.is_none() {
        // In a machine `tug start` has looked already.
        preflight::require_kernel()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tug-worker")
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("making a runtime")?;
    preflight::require_overlay(&config.data_dir)?;
    let outside = Outside::enter(&config)?;
    let served = runtime.block_on(serve(config, outside.routes()));
    outside.leave();
    // A blocking call under way must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

/// ring, for every TLS connection of this process.
pub fn install_crypto() {
    // An error means that it is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

/// The soft limit of a shell, 1024, is there for programs that use select(2); connections, watches and containers need
/// more. Containers start with it.
fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TUG_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Threads in other namespaces than the server's, where a machine's host is.
struct Outside {
    dial: Option<Runtime>,
    names: Option<Runtime>,
}

/// From where registries and resolvers are dialed, and registries' names looked up; here when `None`.
#[derive(Clone)]
struct Routes {
    dial: Option<Handle>,
    names: Option<Handle>,
}

impl Outside {
    fn enter(config: &ServerConfig) -> Result<Self> {
        let (netns, mntns) = (config.dial_netns.as_deref(), config.dial_mntns.as_deref());
        let dial = netns.map(|netns| tug_network::dial::runtime_in_netns(Some(netns), 2));
        let names = netns.zip(mntns).map(|(netns, mntns)| tug_network::dial::lookups_in(netns, mntns));
        let dial = dial.transpose().context("entering the dial namespace")?;
        Ok(Self { dial, names: names.transpose().context("entering the namespaces for names")? })
    }

    fn routes(&self) -> Routes {
        let handle = |runtime: &Option<Runtime>| runtime.as_ref().map(|runtime| runtime.handle().clone());
        Routes { dial: handle(&self.dial), names: handle(&self.names) }
    }

    fn leave(self) {
        [self.dial, self.names].into_iter().flatten().for_each(Runtime::shutdown_background);
    }
}

async fn serve(config: ServerConfig, routes: Routes) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let notifier = Notifier::from_environment();
    let parts = tokio::select! {
        parts = Parts::start(&config, routes, &notifier) => parts?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(node = config.node_name, address = %config.listen, "ready");
    notifier.ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notifier.stopping();
    parts.stop().await;
    Ok(())
}

/// Everything that runs, in an order in which it may be dropped.
struct Parts {
    kubelet: Kubelet,
    _docker: tug_docker_api::DockerApi,
    _dns: Dns,
    _proxy: Arc<Proxy>,
    scheduler: Scheduler,
    controllers: Controllers,
    apiserver: Arc<tug_apiserver::Server>,
    store: tug_store::SqliteStore,
}

impl Parts {
    async fn start(config: &ServerConfig, routes: Routes, notifier: &Notifier) -> Result<Self> {
        notifier.status("Starting the API server");
        let server_dir = config.data_dir.join("server");
        let engine_dir = config.data_dir.join("engine");
        // Containers' files keep their owners and modes in there, and so would be open to local users of the same
        // numbers. Containers themselves have them mounted, whatever lies above.
        for directory in [&server_dir, &engine_dir, &config.data_dir.join("node"), Path::new(ENGINE_RUN_DIR)] {
            make_private(directory)?;
        }
        let engine = tokio::spawn(open_engine(config.clone(), routes.clone()));

        let database = server_dir.join("state.db");
        let store = tokio::task::spawn_blocking(move || tug_store::SqliteStore::open(database)).await?;
        let store = store.context("opening the store")?;
        let apiserver = tug_apiserver::Server::start(apiserver_config(config, &server_dir), Arc::new(store.clone()))
            .await
            .context("starting the API server")?;
        write_admin_kubeconfig(apiserver.pki(), &server_dir, config)?;

        notifier.status("Starting controllers and scheduler");
        let settings = tug_controllers::Settings {
            root_ca: apiserver.pki().ca_pem().into(),
            ..tug_controllers::Settings::default()
        };
        let controllers = tug_controllers::start(
            |identity| {
                apiserver.cluster(match identity {
                    Identity::Manager => User::system("system:kube-controller-manager", &[]),
                    Identity::Account(name) => User::service_account("kube-system", name, ""),
                })
            },
            settings,
        );
        let scheduler = tug_scheduler::start(
            apiserver.cluster(User::system("system:kube-scheduler", &[])),
            tug_scheduler::Settings::default(),
        );
        notifier.status("Starting the node");
        let engine = engine.await?.context("opening the container engine")?;
        let docker = tug_docker_api::serve(engine.clone(), Path::new("/run/tug/docker.sock"));
        let docker = docker.await.context("serving /run/tug/docker.sock")?;
        let node_cidr = first_node_cidr(&config.cluster_cidr);
        let network = PodNetwork::open(tug_network::pods::Config {
            bridge: POD_BRIDGE.into(),
            node_cidr,
            cluster_cidr: config.cluster_cidr,
            state_dir: config.data_dir.join("node/network"),
            mtu: ETHERNET_MTU,
        })
        .await
        .context("making the pod network")?;
        let dns_address = config.cluster_dns();
        network.add_address(Ipv4Net::from(dns_address)).await.context("giving the node its DNS address")?;
        let proxy = Proxy::start(
            apiserver.cluster(User::system("system:kube-proxy", &[])),
            tug_proxy::Config {
                node_name: config.node_name.clone(),
                node_ip: config.node_ip,
                service_cidr: config.service_cidr,
                cluster_cidr: config.cluster_cidr,
                bridge: Some(POD_BRIDGE.into()),
                local_addresses: vec![dns_address],
            },
        )
        .await
        .context("starting the service proxy")?;
        let proxy = Arc::new(proxy);
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let upstreams = tug_dns::resolvers(&resolv_conf);
        let mut listen = vec![SocketAddr::new(dns_address.into(), 53)];
        if routes.dial.is_some() {
            listen.extend(on_own_loopback(&upstreams));
        }
        let dns = Dns::start(
            apiserver.cluster(User::service_account("kube-system", "coredns", "")),
            tug_dns::Config { listen, domain: "cluster.local".into(), upstreams, dial: routes.dial },
        )
        .await
        .context("starting the DNS server")?;
        let node_user = User::system(&format!("system:node:{}", config.node_name), &["system:nodes"]);
        let node_cluster = apiserver.cluster(node_user);
        let own = Scope { fields: format!("metadata.name={}", config.node_name), ..Scope::default() };
        let nodes: Informer<Node> = node_cluster.informers.scoped(own);
        let runtime = EngineRuntime::new(engine, Arc::new(network), engine_dir, env!("CARGO_PKG_VERSION"));
        let kubelet = Kubelet::start(
            kubelet_config(config, apiserver.pki(), node_cidr)?,
            node_cluster,
            Arc::new(runtime),
            Arc::new(ProxyDrains(proxy.clone())),
        )
        .await
        .context("starting the kubelet")?;

        proxy.synced().await;
        dns.synced().await;
        node_ready(&nodes, &config.node_name).await;
        Ok(Self { kubelet, _docker: docker, _dns: dns, _proxy: proxy, scheduler, controllers, apiserver, store })
    }

    /// Those that write stop before those that are written to.
    async fn stop(self) {
        self.kubelet.shutdown();
        self.scheduler.stop().await;
        self.controllers.stop().await;
        self.apiserver.shutdown().await;
        self.store.close().await;
    }
}

/// A machine has its host's resolv.conf but a loopback of its own. Where the host's resolver is on the loopback, cluster DNS
/// stands in for it, for what is on the machine's network and not the cluster's: pods with `hostNetwork`, a shell.
fn on_own_loopback(resolvers: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    // Without IPv6 there is no ::1.
    let is_here = |resolver: &SocketAddr| std::net::UdpSocket::bind((resolver.ip(), 0)).is_ok();
    resolvers.iter().copied().filter(|resolver| resolver.ip().is_loopback()).filter(is_here)
}

/// A pod's containers are told to stop once this node's proxy sends them no new connections.
struct ProxyDrains(Arc<Proxy>);

#[async_trait]
impl Drained for ProxyDrains {
    async fn drained(&self, pod: &Pod, address: IpAddr) {
        self.0.dropped(pod, address).await;
    }
}

async fn open_engine(config: ServerConfig, routes: Routes) -> Result<Arc<Engine>, tug_engine::Error> {
    let mut mirrors = std::collections::BTreeMap::<_, Vec<_>>::new();
    for mirror in &config.registry_mirrors {
        mirrors.entry(mirror.registry.clone()).or_default().push(mirror.url.clone());
    }
    Engine::open(tug_engine::Config {
        data_dir: config.data_dir.join("engine"),
        run_dir: ENGINE_RUN_DIR.into(),
        cgroup_parent: "/tug".into(),
        mirrors,
        dial: routes.dial,
        names: routes.names,
        program: "/proc/self/exe".into(),
    })
    .await
}

fn apiserver_config(config: &ServerConfig, server_dir: &Path) -> tug_apiserver::Config {
    let mut sans = config.tls_sans.clone();
    sans.push(config.node_name.clone());
    tug_apiserver::Config {
        listen: vec![config.listen],
        service_cidr: config.service_cidr,
        advertise: config.node_ip.into(),
        extra_sans: sans,
        ..tug_apiserver::Config::new(server_dir.into())
    }
}

fn kubelet_config(config: &ServerConfig, pki: &Pki, node_cidr: Ipv4Net) -> Result<tug_kubelet::Config> {
    let sans = [config.node_name.clone(), config.node_ip.to_string()];
    let (cert, key) = pki.issue_server(&format!("system:node:{}", config.node_name), &sans)?;
    Ok(tug_kubelet::Config {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip.into(),
        data_dir: config.data_dir.join("node"),
        pod_logs: "/var/log/pods".into(),
        container_logs: "/var/log/containers".into(),
        cluster_dns: vec![config.cluster_dns().into()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        listen: (Ipv4Addr::UNSPECIFIED, KUBELET_PORT).into(),
        serving_cert_pem: cert.into_bytes(),
        serving_key_pem: key.into_bytes(),
        client_ca_pem: pki.ca_pem().as_bytes().to_vec(),
        labels: [("node-role.kubernetes.io/control-plane".to_owned(), String::new())].into(),
        annotations: Default::default(),
        max_pods: 110,
        pod_cidr: Some(node_cidr.to_string()),
        kubelet_version: KUBERNETES_VERSION.into(),
        system_uuid: None,
    })
}

/// The server's own node has the first /24 of the pods' range.
fn first_node_cidr(cluster: &Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(cluster.network(), 24).expect("24 bits are a prefix")
}

/// Returns once the node says that it is ready.
async fn node_ready(nodes: &Informer<Node>, name: &str) {
    let (ready, mut is_ready) = tokio::sync::watch::channel(false);
    let name = name.to_owned();
    nodes.subscribe(move |change| {
        let Some(node) = change.new.as_ref().filter(|object| object.key.name == name) else { return };
        let Ok(node) = node.typed::<Node>() else { return };
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        ready.send_replace(conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    });
    // The sender lives in the informer, which lives here.
    let _known = is_ready.wait_for(|ready| *ready).await;
}

/// The administrator's door, as `tug kubeconfig` prints it.
fn write_admin_kubeconfig(pki: &Pki, server_dir: &Path, config: &ServerConfig) -> Result<()> {
    use base64::Engine as _;
    let (cert, key) = pki.issue_client("kubernetes-admin", &["system:masters"], ADMIN_CERTIFICATE_LIFE)?;
    let data = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let document = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": config.node_name, "cluster": {
            "certificate-authority-data": data(pki.ca_pem()),
            "server": format!("https://{}", config.reached_at()),
        }}],
        "users": [{ "name": config.node_name, "user": {
            "client-certificate-data": data(&cert),
            "client-key-data": data(&key),
        }}],
        "contexts": [{ "name": config.node_name, "context": { "cluster": config.node_name, "user": config.node_name } }],
        "current-context": config.node_name,
    });
    let path = server_dir.join("admin.kubeconfig");
    write_secret(&path, serde_norway::to_string(&document)?.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let partial = path.with_extension("partial");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    std::fs::rename(partial, path)
}

fn make_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}
