//! Kubernetes' controllers: each compares what is with what should be, takes a step, and waits for the next change.
//!
//! One file a controller. It exports a [`Controller`], which is a row of [`CONTROLLERS`]; each runs with the identity and
//! the rights of its own service account.
#![forbid(unsafe_code)]
// Until the first controller stands in the table.
#![allow(dead_code)]

mod controller;
mod error;

use std::sync::Arc;

use tokio::task::JoinSet;
use tug_client::Cluster;

use controller::{Context, Controller};

/// All there are. Their order says nothing: all run at once.
const CONTROLLERS: &[Controller] = &[];

/// What people set, by the names of kube-controller-manager's flags.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An EndpointSlice holds at most so many endpoints.
    pub max_endpoints_per_slice: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_endpoints_per_slice: 100 }
    }
}

/// Running controllers. Dropping them, like [`Controllers::stop`], ends them at once, wherever they are: what they left
/// half done they find and finish at their next start.
pub struct Controllers {
    tasks: JoinSet<()>,
}

/// Starts all controllers. `door` gives the API as the service account of that name in `kube-system` sees it.
pub fn start(door: impl Fn(&'static str) -> Cluster, settings: Settings) -> Controllers {
    let settings = Arc::new(settings);
    let mut tasks = JoinSet::new();
    for controller in CONTROLLERS {
        let Cluster { client, informers } = door(controller.account);
        tasks.spawn((controller.run)(Context { name: controller.name, client, informers, settings: settings.clone() }));
    }
    Controllers { tasks }
}

impl Controllers {
    /// Returns once no controller runs any more.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
