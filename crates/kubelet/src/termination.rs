//! Ending containers gracefully: hook and drain, then the stop signal, then SIGKILL.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::{Instant, timeout_at};

use crate::action::Target;
use crate::kubelet::Context;
use crate::lifecycle;
use crate::pod;
use crate::status::Record;

/// A container gets this long after its stop signal, however long its hook took (upstream's minimum).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Ends the containers of one pod.
pub struct Stop<'a> {
    pub context: &'a Arc<Context>,
    pub pod: &'a Pod,
    pub address: Option<IpAddr>,
    /// The pod itself ends: nobody may send it new work before its stop signal.
    pub drain: bool,
}

impl Stop<'_> {
    /// All that run: ordinary containers together, then sidecars one by one, the last started first.
    pub async fn all(&self, records: &[Record], grace: Duration) {
        let deadline = Instant::now() + grace;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let running =
            |name: &str| records.iter().filter(|record| record.running()).find(|record| record.name() == name);
        let sidecars = pod::init_containers(&spec).iter().filter(|container| pod::is_sidecar(container));
        let sidecars: Vec<&Container> = sidecars.collect();
        let ordinary = records
            .iter()
            .filter(|record| record.running() && !sidecars.iter().any(|container| container.name == record.name()));
        join_all(ordinary.map(|record| async move {
            let message = format!("Stopping container {}", record.name());
            self.one(record.name(), &record.status.id, deadline, &message).await;
        }))
        .await;
        for container in sidecars.into_iter().rev() {
            if let Some(record) = running(&container.name) {
                let message = format!("Stopping container {}", container.name);
                self.one(&container.name, &record.status.id, deadline, &message).await;
            }
        }
    }

    /// One container, saying `message` in its event; returns once it has ended.
    pub async fn one(&self, name: &str, id: &str, deadline: Instant, message: &str) {
        let about = pod::container_reference(self.pod, name);
        self.context.recorder.normal(&about, "Killing", message);
        let hook = async {
            let Some(container) = find(self.pod, name) else { return };
            let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
                return;
            };
            let target = Target {
                runtime: Arc::clone(&self.context.runtime),
                container_id: id.to_owned(),
                container: container.clone(),
                address: self.address,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(error) = lifecycle::run(handler, self.pod, &target, left).await {
                tracing::warn!(pod = %pod::full_name(self.pod), container = name, error, "preStop hook failed");
                self.context.recorder.warning(&about, "FailedPreStopHook", "PreStopHook failed");
            }
        };
        let drained = async {
            if let Some(address) = self.address.filter(|_| self.drain && !deadline_passed(deadline)) {
                self.context.drained.drained(self.pod, address).await;
            }
        };
        // Both are bounded by the grace period: what isn't done by then is cut off by the signal.
        if timeout_at(deadline, async { tokio::join!(hook, drained) }).await.is_err() {
            tracing::debug!(container = name, "grace period over before the stop signal");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(LEAST_GRACE);
        if let Err(error) = self.context.runtime.stop_container(id, left).await {
            tracing::warn!(pod = %pod::full_name(self.pod), container = name, %error, "stopping failed");
        }
    }
}

fn deadline_passed(deadline: Instant) -> bool {
    deadline <= Instant::now()
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(pod::init_containers(spec)).find(|container| container.name == name)
}
