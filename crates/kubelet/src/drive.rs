//! Which container of a pod is started or restarted next, and when.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::action::Target;
use crate::backoff::go_seconds;
use crate::labels;
use crate::pod;
use crate::probes::{self, Subject};
use crate::status::{Record, Waiting, latest};
use crate::worker::{FIRST_RETRY, LOOK_AGAIN, Worker};

/// How far one container is.
enum Progress {
    Running,
    /// It has ended and is not started again.
    Ended,
    /// Look again after this.
    Later(Duration),
}

/// How far a pod is.
pub(crate) enum Driven {
    /// Look again after this at the latest.
    On(Duration),
    /// Nothing that it is for runs or will run again.
    Over,
}

/// A start that failed is not tried again before this, unless what the pod refers to has changed.
pub(crate) struct Delayed {
    until: Instant,
    changes: u64,
}

impl Worker {
    /// Init containers in order, then the others.
    pub(crate) async fn drive(&mut self, spec: &PodSpec) -> Driven {
        if self.sandbox.is_none() {
            return Driven::Over;
        }
        let records = self.records().await;
        let running: Vec<String> = records.iter().filter(|r| r.running()).map(|r| r.status.id.clone()).collect();
        self.probes.keep(|id| running.iter().any(|known| known == id));
        let passed = spec
            .containers
            .iter()
            .any(|container| latest(&records, &container.name).0.is_some_and(|record| self.in_this_sandbox(record)));
        let mut delay = self.drive_added(spec, &records).await;
        for container in pod::init_containers(spec) {
            let sidecar = pod::is_sidecar(container);
            if passed && !sidecar {
                continue;
            }
            match self.drive_one(spec, container, &records).await {
                Progress::Ended if succeeded(&records, container) => {}
                Progress::Ended => return Driven::Over,
                Progress::Running if sidecar && (passed || self.has_started(container).await) => {}
                Progress::Running => return Driven::On(delay),
                Progress::Later(wait) if passed => delay = delay.min(wait),
                Progress::Later(wait) => return Driven::On(delay.min(wait)),
            }
        }
        let mut over = true;
        for container in &spec.containers {
            if self.ending.is_cancelled() {
                return Driven::On(delay);
            }
            match self.drive_one(spec, container, &records).await {
                Progress::Ended => {}
                Progress::Running => over = false,
                Progress::Later(wait) => (over, delay) = (false, delay.min(wait)),
            }
        }
        if over { Driven::Over } else { Driven::On(delay) }
    }

    /// Whether a sandbox is worth making when the last one died: upstream gives pods that never restart no second one.
    pub(crate) fn has_work(&self, spec: &PodSpec, records: &[Record]) -> bool {
        if pod::restart_policy(spec) == "Never" && !records.is_empty() {
            return false;
        }
        spec.containers.iter().any(|container| match latest(records, &container.name).0 {
            Some(record) if record.exited() => pod::restarts(spec, container, record.exit_code()),
            _ => true,
        })
    }

    fn in_this_sandbox(&self, record: &Record) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| record.status.created >= sandbox.status.created)
    }

    async fn has_started(&mut self, container: &Container) -> bool {
        let records = self.records().await;
        latest(&records, &container.name).0.is_some_and(|record| record.running() && record.health.started)
    }

    /// Containers added to look into the pod: started once each, whatever the others do; when to look again.
    async fn drive_added(&mut self, spec: &PodSpec, records: &[Record]) -> Duration {
        let mut delay = LOOK_AGAIN;
        for (container, _) in pod::ephemeral_containers(spec) {
            let progress = match latest(records, &container.name).0 {
                Some(record) if record.running() || record.exited() => {
                    self.waiting.remove(&container.name);
                    continue;
                }
                None if self.count_before(&container) > 0 => continue,
                // New, or left half-made by an earlier kubelet.
                _ => self.drive_one(spec, &container, records).await,
            };
            if let Progress::Later(wait) = progress {
                delay = delay.min(wait);
            }
        }
        delay
    }

    async fn drive_one(&mut self, spec: &PodSpec, container: &Container, records: &[Record]) -> Progress {
        let (record, _) = latest(records, &container.name);
        match record {
            None => self.start_next(container, self.count_before(container), records).await,
            Some(record) if record.running() => {
                self.waiting.remove(&container.name);
                self.watch(container, &record.status.id);
                let Some(kind) = record.health.failed else { return Progress::Running };
                self.restart_unhealthy(spec, container, record, kind).await;
                Progress::Later(Duration::ZERO)
            }
            Some(record) if record.exited() => {
                let init = pod::init_containers(spec).iter().any(|init| init.name == container.name);
                let done = init && !pod::is_sidecar(container) && record.exit_code() == 0;
                if done || !pod::restarts(spec, container, record.exit_code()) {
                    self.waiting.remove(&container.name);
                    return Progress::Ended;
                }
                self.restart(container, record, records).await
            }
            // Made and never started: an earlier kubelet was killed in between.
            Some(record) => {
                if let Err(error) = self.context.runtime.remove_container(&record.status.id).await {
                    tracing::warn!(container = container.name, %error, "half-made container not removed");
                }
                Progress::Later(Duration::ZERO)
            }
        }
    }

    async fn restart(&mut self, container: &Container, record: &Record, records: &[Record]) -> Progress {
        if let Some(left) = self.delayed(&container.name) {
            return Progress::Later(left);
        }
        let now = Instant::now();
        let ended = record.status.finished.and_then(|at| SystemTime::now().duration_since(at).ok());
        let ended = ended.and_then(|ago| now.checked_sub(ago)).unwrap_or(now);
        if let Some(left) = self.crashes.remaining(&container.name, ended, now) {
            self.back_off(container);
            return Progress::Later(left);
        }
        // Counted before the start: one that fails, for whatever reason, is not tried again at once.
        self.crashes.next(&container.name, ended, now);
        self.start_next(container, labels::restart_count(&record.status) + 1, records).await
    }

    /// How long a container's next start has to wait because of its last.
    fn delayed(&self, name: &str) -> Option<Duration> {
        let delayed = self.delays.get(name).filter(|delayed| delayed.changes == self.references.changes())?;
        delayed.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Restarts that an API server's status remembers though the runtime has lost the containers.
    fn count_before(&self, container: &Container) -> i32 {
        let status = self.pod.status.as_ref();
        let lists = status.map(|status| {
            [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
        });
        let known = lists.into_iter().flatten().flat_map(|list| list.iter().flatten());
        known
            .into_iter()
            .find(|known| known.name == container.name && known.container_id.is_some())
            .map_or(0, |known| known.restart_count + 1)
    }

    fn back_off(&mut self, container: &Container) {
        let name = pod::full_name(&self.pod);
        let delay = go_seconds(self.crashes.delay(&container.name));
        let message = format!("back-off {delay} restarting failed container={} pod={name}", container.name);
        let waiting = Waiting { reason: "CrashLoopBackOff", message };
        let before = self.waiting.insert(container.name.clone(), waiting);
        if before.is_none_or(|before| before.reason != "CrashLoopBackOff") {
            let about = pod::container_reference(&self.pod, &container.name);
            let message = format!("Back-off restarting failed container {} in pod {name}", container.name);
            self.context.recorder.warning(&about, "BackOff", &message);
        }
    }

    async fn start_next(&mut self, container: &Container, restart_count: i32, records: &[Record]) -> Progress {
        if let Some(left) = self.delayed(&container.name) {
            return Progress::Later(left);
        }
        let Some(sandbox) = self.sandbox.clone() else { return Progress::Later(FIRST_RETRY) };
        match self.start(&sandbox, container, restart_count, records).await {
            Ok(id) => {
                self.waiting.remove(&container.name);
                self.delays.remove(&container.name);
                self.watch(container, &id);
                self.publish().await;
                Progress::Running
            }
            Err(waiting) => {
                let image = container.image.as_deref().unwrap_or("");
                let delay = match waiting.reason {
                    // The failure is shown for a moment; the next look tells of the back-off, as upstream's next sync.
                    "ErrImagePull" | "RunContainerError" | "PostStartHookError" => FIRST_RETRY * 2,
                    _ => self.pulls.retry_in(image).unwrap_or(FAILED_START_RETRY),
                };
                let until = Instant::now() + delay;
                self.delays.insert(container.name.clone(), Delayed { until, changes: self.references.changes() });
                self.waiting.insert(container.name.clone(), waiting);
                Progress::Later(delay)
            }
        }
    }

    fn watch(&mut self, container: &Container, id: &str) {
        let target = Target {
            runtime: Arc::clone(&self.context.runtime),
            container_id: id.to_owned(),
            container: container.clone(),
            address: self.addresses.pod.first().and_then(|ip| ip.parse().ok()),
        };
        let subject = Subject {
            target,
            about: pod::container_reference(&self.pod, &container.name),
            recorder: self.context.recorder.clone(),
            wake: Arc::clone(&self.wake),
        };
        self.probes.watch(subject, probes::reported(&self.pod, id));
    }

    async fn restart_unhealthy(&mut self, spec: &PodSpec, container: &Container, record: &Record, kind: &str) {
        let probe = if kind == "startup" { &container.startup_probe } else { &container.liveness_probe };
        let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
        let grace = own.or(spec.termination_grace_period_seconds).unwrap_or(30);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(grace.unsigned_abs());
        let name = &container.name;
        let message = if pod::init_containers(spec).iter().any(|init| init.name == *name) {
            format!("Init container {name} failed {kind} probe")
        } else if pod::restarts_on_failure(spec, container) {
            format!("Container {name} failed {kind} probe, will be restarted")
        } else {
            format!("Container {name} failed {kind} probe")
        };
        self.stop(false).one(name, &record.status.id, deadline, &message).await;
    }
}

/// Upstream's pause between two syncs of a pod whose last one failed.
const FAILED_START_RETRY: Duration = Duration::from_secs(10);

fn succeeded(records: &[Record], container: &Container) -> bool {
    latest(records, &container.name).0.is_some_and(|record| record.exit_code() == 0)
}
