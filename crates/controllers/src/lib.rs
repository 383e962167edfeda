//! Kubernetes' controllers: each compares what is with what should be, takes a step, and waits for the next change.
//!
//! One file a controller. It exports a [`Controller`], which is a row of [`CONTROLLERS`]; each writes with the identity
//! and the rights of its own service account. What they read is one copy of the objects for all of them, which
//! kube-controller-manager's identity may follow, as upstream.
#![forbid(unsafe_code)]

mod collection;
mod controller;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod error;
mod garbage_collector;
mod namespace;
mod node_lifecycle;
mod owner;
mod pod;
mod pod_gc;
mod pod_status;
mod pods;
mod pods_on_nodes;
mod replicas;
mod replicaset;
mod replication;
mod resources;
mod root_ca;
mod service_account;
mod service_account_token;
mod service_pods;
mod taint_eviction;
mod taints;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tug_client::Cluster;

use controller::{Context, Controller, MANAGER};
use pods::Pods;

/// All there are. Their order says nothing: all run at once.
const CONTROLLERS: &[Controller] = &[
    deployment::CONTROLLER,
    endpoint_slice::CONTROLLER,
    endpoints::CONTROLLER,
    garbage_collector::CONTROLLER,
    namespace::CONTROLLER,
    node_lifecycle::CONTROLLER,
    pod_gc::CONTROLLER,
    replicaset::CONTROLLER,
    replication::CONTROLLER,
    root_ca::CONTROLLER,
    service_account::CONTROLLER,
    service_account_token::CONTROLLER,
    taint_eviction::CONTROLLER,
];

/// What people set, by the names of kube-controller-manager's flags.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An EndpointSlice holds at most so many endpoints.
    pub max_endpoints_per_slice: usize,
    /// PEM certificates by which pods know the API server.
    pub root_ca: String,
    /// A node that wasn't heard of for so long is unknown.
    pub node_monitor_grace_period: Duration,
    /// The same for a new node that has never said how it is.
    pub node_startup_grace_period: Duration,
    /// Finished pods past so many are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// How long pods wait for a node that is gone to come back. No flag upstream.
    pub node_quarantine: Duration,
}

/// Who speaks to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user `system:kube-controller-manager`.
    Manager,
    /// The service account of this name in `kube-system`.
    Account(&'static str),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_endpoints_per_slice: 100,
            root_ca: String::new(),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            terminated_pod_gc_threshold: 12500,
            node_quarantine: Duration::from_secs(40),
        }
    }
}

/// Running controllers. Dropping them, like [`Controllers::stop`], ends them at once, wherever they are: what they left
/// half done they find and finish at their next start.
pub struct Controllers {
    tasks: JoinSet<()>,
}

/// Starts all controllers. `door` gives the API as somebody sees it.
pub fn start(door: impl Fn(Identity) -> Cluster, settings: Settings) -> Controllers {
    let settings = Arc::new(settings);
    let informers = door(Identity::Manager).informers;
    let pods = Arc::new(Pods::follow(informers.of()));
    let mut tasks = JoinSet::new();
    for controller in CONTROLLERS {
        let identity = match controller.account {
            MANAGER => Identity::Manager,
            account => Identity::Account(account),
        };
        tasks.spawn((controller.run)(Context {
            name: controller.name,
            client: door(identity).client,
            informers: informers.clone(),
            pods: pods.clone(),
            settings: settings.clone(),
        }));
    }
    Controllers { tasks }
}

impl Controllers {
    /// Returns once no controller runs any more.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
