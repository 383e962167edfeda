//! Finds a node for each pod that has none: queue, filter, score, bind.
//!
//! [`follow`] keeps [`cache`] and [`queue`] true to the API; [`run`] takes pod after pod from the queue through a
//! [`cycle`] of the [`plugins`]; [`write`] tells the API. Names, defaults and messages are kube-scheduler's.
#![forbid(unsafe_code)]

mod cache;
mod change;
mod cycle;
mod diagnosis;
mod disruption;
mod follow;
mod framework;
mod node;
mod node_selector;
mod plugins;
mod pod;
mod provision;
mod queue;
mod resources;
mod run;
mod storage;
mod taints;
mod tally;
mod terms;
mod topology;
mod write;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tug_client::{Cluster, Recorder};

use cache::Cache;
use cycle::Scheduling;
use framework::Framework;
pub use queue::Backoff;
use queue::Queue;

/// Pods whose `schedulerName` is another are left alone.
pub const NAME: &str = "default-scheduler";

/// What people set, by the names of kube-scheduler's configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of a hundred nodes, so many that will do are enough to choose from; fewer make it faster in large clusters. Zero
    /// means 50 in a hundred, less one for each 125 nodes, but at least 5. With fewer than 100 nodes all are looked at.
    pub percentage_of_nodes_to_score: u8,
    /// How long a pod rests that fits nowhere.
    pub pod_backoff: Backoff,
}

/// A running scheduler. Dropping it, like [`Scheduler::stop`], ends it at once, wherever it is: a pod that it was about
/// to bind is bound, or is found and bound at its next start.
pub struct Scheduler {
    tasks: JoinSet<()>,
}

/// Starts scheduling. `cluster` speaks for `system:kube-scheduler`.
pub fn start(cluster: Cluster, settings: Settings) -> Scheduler {
    let shared = Arc::new(Shared::new(&cluster, &settings));
    let informers = follow::start(&shared, &cluster);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        informers.synced().await;
        run::run(shared).await;
    });
    Scheduler { tasks }
}

impl Scheduler {
    /// Returns once nothing of it runs any more.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What the informers' callbacks, the loop and its writes have in common.
struct Shared {
    state: Mutex<State>,
    /// Something came into the queue.
    wake: Notify,
    /// A claim changed.
    claims: Notify,
    framework: Arc<Framework>,
    client: kube::Client,
    recorder: Recorder,
}

/// Under one lock, held for one change or one pod's turn.
struct State {
    cache: Cache,
    queue: Queue,
    scheduling: Scheduling,
}

impl Shared {
    fn new(cluster: &Cluster, settings: &Settings) -> Self {
        let framework = Arc::new(Framework::new(plugins::all()));
        let state = State {
            cache: Cache::default(),
            queue: Queue::new(framework.clone(), settings.pod_backoff, Instant::now()),
            scheduling: Scheduling::new(settings.percentage_of_nodes_to_score.into(), rand::random()),
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            claims: Notify::new(),
            framework,
            client: cluster.client.clone(),
            recorder: Recorder::new(cluster.client.clone(), NAME, None),
        }
    }

    /// Runs `f` on the state and wakes the loop, which looks whether there is anything to do.
    fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let result = f(&mut self.state.lock());
        self.wake.notify_one();
        result
    }
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod testing;
