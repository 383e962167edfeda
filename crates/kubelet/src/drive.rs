//! Which container of a pod is started or restarted next, and when.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::action::Target;
use crate::backoff::go_seconds;
use crate::pod;
use crate::probes::{self, Subject};
use crate::status::{Record, Waiting, latest};
use crate::worker::{FIRST_RETRY, LOOK_AGAIN, Worker};

/// How far one container is.
enum Progress {
    Running,
    Done,
    /// Look again after this.
    Later(Duration),
}

impl Worker {
    /// Init containers in order, then the others.
    pub(crate) async fn drive(&mut self, spec: &PodSpec) -> Duration {
        let records = self.records().await;
        let running: Vec<String> = records.iter().filter(|r| r.running()).map(|r| r.status.id.clone()).collect();
        self.probes.keep(|id| running.iter().any(|known| known == id));
        let mut delay = LOOK_AGAIN;
        let passed = spec.containers.iter().any(|container| latest(&records, &container.name).0.is_some());
        for container in pod::init_containers(spec) {
            let sidecar = pod::is_sidecar(container);
            if passed && !sidecar {
                continue;
            }
            match self.drive_one(spec, container, &records).await {
                Progress::Done if !sidecar => {}
                Progress::Running if sidecar && (passed || self.has_started(container).await) => {}
                Progress::Running | Progress::Done => return delay,
                Progress::Later(wait) if passed => delay = delay.min(wait),
                Progress::Later(wait) => return delay.min(wait),
            }
        }
        for container in &spec.containers {
            if self.ending.is_cancelled() {
                break;
            }
            if let Progress::Later(wait) = self.drive_one(spec, container, &records).await {
                delay = delay.min(wait);
            }
        }
        delay
    }

    async fn has_started(&mut self, container: &Container) -> bool {
        let records = self.records().await;
        latest(&records, &container.name).0.is_some_and(|record| record.running() && record.health.started)
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
                if !self.restarts(spec, container, record) {
                    self.waiting.remove(&container.name);
                    return Progress::Done;
                }
                let now = Instant::now();
                let ended = record.status.finished.and_then(|at| SystemTime::now().duration_since(at).ok());
                let ended = ended.and_then(|ago| now.checked_sub(ago)).unwrap_or(now);
                if let Some(left) = self.crashes.remaining(&container.name, ended, now) {
                    self.back_off(container);
                    return Progress::Later(left);
                }
                let count = crate::labels::restart_count(&record.status) + 1;
                let progress = self.start_next(container, count, records).await;
                if matches!(progress, Progress::Running) {
                    self.crashes.next(&container.name, ended, now);
                }
                progress
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

    /// Restarts that an API server's status remembers though the runtime has lost the containers.
    fn count_before(&self, container: &Container) -> i32 {
        let status = self.pod.status.as_ref();
        let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
        let known = lists.into_iter().flatten().flat_map(|list| list.iter().flatten());
        known
            .into_iter()
            .find(|known| known.name == container.name && known.container_id.is_some())
            .map_or(0, |known| known.restart_count + 1)
    }

    fn restarts(&self, spec: &PodSpec, container: &Container, record: &Record) -> bool {
        if pod::is_sidecar(container) {
            return true;
        }
        let init = pod::init_containers(spec).iter().any(|init| init.name == container.name);
        match pod::restart_policy(spec) {
            "Never" => false,
            "Always" if !init => true,
            _ => record.exit_code() != 0,
        }
    }

    fn back_off(&mut self, container: &Container) {
        let name = pod::full_name(&self.pod);
        let delay = go_seconds(self.crashes.delay(&container.name));
        let message = format!("back-off {delay} restarting failed container={} pod={name}", container.name);
        let waiting = Waiting { reason: "CrashLoopBackOff", message };
        if self.waiting.insert(container.name.clone(), waiting).is_none() {
            let about = pod::container_reference(&self.pod, &container.name);
            let message = format!("Back-off restarting failed container {} in pod {name}", container.name);
            self.context.recorder.warning(&about, "BackOff", &message);
        }
    }

    async fn start_next(&mut self, container: &Container, restart_count: i32, records: &[Record]) -> Progress {
        let Some(sandbox) = self.sandbox.clone() else { return Progress::Later(FIRST_RETRY) };
        match self.start(&sandbox, container, restart_count, records).await {
            Ok(id) => {
                self.waiting.remove(&container.name);
                self.watch(container, &id);
                self.publish().await;
                Progress::Running
            }
            Err(waiting) => {
                let image = container.image.as_deref().unwrap_or("");
                let delay = self.pulls.retry_in(image).unwrap_or(Duration::from_secs(10));
                let failed_pull = waiting.reason == "ErrImagePull";
                self.waiting.insert(container.name.clone(), waiting);
                // The back-off itself is reported at the next look, as upstream's next sync does.
                Progress::Later(if failed_pull { delay.min(FIRST_RETRY * 2) } else { delay })
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
        self.probes.watch(subject, probes::reported(&self.pod, container, id));
    }

    async fn restart_unhealthy(&mut self, spec: &PodSpec, container: &Container, record: &Record, kind: &str) {
        let probe = if kind == "startup" { &container.startup_probe } else { &container.liveness_probe };
        let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
        let grace = own.or(spec.termination_grace_period_seconds).unwrap_or(30);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(grace.unsigned_abs());
        let message = format!("Container {} failed {kind} probe, will be restarted", container.name);
        self.stop(false).one(record, deadline, &message).await;
    }
}
