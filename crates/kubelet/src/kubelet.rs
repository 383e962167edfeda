//! The kubelet's parts, started together: node registration, pods, HTTPS server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Service};
use tug_client::{Cluster, Informer, Recorder};

use crate::node::{self, Capacity};
use crate::pods::Pods;
use crate::references::References;
use crate::resolv::ResolvConf;
use crate::runtime::Runtime;
use crate::task::AbortOnDrop;
use crate::{groups, lease, server};

/// Where and as what the kubelet works.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// `pods/<uid>/…` and seccomp profiles: `/var/lib/tug/node`.
    pub data_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_logs: PathBuf,
    /// `/var/log/containers`: links into `pod_logs`, for log collectors.
    pub container_logs: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's own resolv.conf, which `dnsPolicy: Default` pods get.
    pub resolv_conf: PathBuf,
    /// `0.0.0.0:10250`.
    pub listen: SocketAddr,
    pub serving_cert_pem: Vec<u8>,
    pub serving_key_pem: Vec<u8>,
    /// Signs the certificates of those who may connect.
    pub client_ca_pem: Vec<u8>,
    /// Added to the node's own.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// No more than this many pods at a time: 110.
    pub max_pods: u32,
    pub pod_cidr: Option<String>,
    /// `v1.36.0`.
    pub kubelet_version: String,
    /// Machine's identity where the host's files say nothing.
    pub system_uuid: Option<String>,
}

/// Told when a pod begins to end: returns once the node's proxy sends it no new connections. The stop signal waits for
/// it, within the pod's grace period.
#[async_trait]
pub trait Drained: Send + Sync + 'static {
    async fn drained(&self, pod: &Pod, address: IpAddr);
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kubelet: cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("kubelet: certificate for {what}: {message}")]
    Certificate { what: &'static str, message: String },
    #[error("kubelet: {path}: {source}")]
    Directory { path: String, source: std::io::Error },
}

/// What all parts of the kubelet share.
pub(crate) struct Context {
    pub config: Config,
    pub client: kube::Client,
    pub recorder: Recorder,
    pub runtime: Arc<dyn Runtime>,
    pub drained: Arc<dyn Drained>,
    pub references: Arc<References>,
    pub services: Informer<Service>,
    pub capacity: Capacity,
    pub resolv_conf: ResolvConf,
    pub node_hosts: String,
}

/// A running kubelet. Dropping it, like [`Kubelet::shutdown`], leaves containers running.
pub struct Kubelet {
    pods: Arc<Pods>,
    address: SocketAddr,
    tasks: Vec<AbortOnDrop<()>>,
}

impl Kubelet {
    /// # Errors
    /// If it can't listen, its certificates don't parse or its directories can't be made. What the API server or the
    /// runtime refuse later is retried and reported in the node's and the pods' status.
    pub async fn start(
        config: Config,
        cluster: Cluster,
        runtime: Arc<dyn Runtime>,
        drained: Arc<dyn Drained>,
    ) -> Result<Self, Error> {
        for path in [config.data_dir.join("pods"), config.pod_logs.clone(), config.container_logs.clone()] {
            tokio::fs::create_dir_all(&path)
                .await
                .map_err(|source| Error::Directory { path: path.display().to_string(), source })?;
        }
        let read = |path: PathBuf| async move { tokio::fs::read_to_string(path).await.unwrap_or_default() };
        let resolv_conf = ResolvConf::parse(&read(config.resolv_conf.clone()).await);
        let context = Arc::new(Context {
            recorder: Recorder::new(cluster.client.clone(), "kubelet", Some(config.node_name.clone())),
            references: Arc::new(References::new(cluster.informers.clone())),
            services: cluster.informers.of::<Service>(),
            client: cluster.client.clone(),
            capacity: Capacity::of_this_machine(config.max_pods, &runtime.image_dir()),
            node_hosts: read(PathBuf::from("/etc/hosts")).await,
            resolv_conf,
            runtime,
            drained,
            config,
        });
        let pods = Pods::start(Arc::clone(&context), &cluster.informers);
        let (address, serving) = server::start(Arc::clone(&context), Arc::clone(&pods)).await?;
        let tasks = vec![
            serving,
            AbortOnDrop(tokio::spawn(node::run(Arc::clone(&context), address.port()))),
            AbortOnDrop(tokio::spawn(lease::run(Arc::clone(&context)))),
            AbortOnDrop(tokio::spawn(groups::run(Arc::clone(&context), pods.burstable_milli()))),
        ];
        Ok(Self { pods, address, tasks })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops acting; containers go on.
    pub fn shutdown(&self) {
        for task in &self.tasks {
            task.0.abort();
        }
        self.pods.shutdown();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.shutdown();
    }
}
