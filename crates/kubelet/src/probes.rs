//! Startup, readiness and liveness probes: a task for each running container, whose findings its pod's worker reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, ObjectReference, Probe};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tug_client::Recorder;

use crate::action::{Answer, GetError, Outcome, Target};
use crate::expand::expand;
use crate::task::AbortOnDrop;

/// A probe that can't be tried is tried again at once, this often in all.
const TRIES: usize = 3;

/// What is known of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The startup probe has passed, or there is none.
    pub started: bool,
    pub ready: bool,
    /// `liveness` or `startup` when that probe has failed too often: the container wants a restart.
    pub failed: Option<&'static str>,
}

/// The probes of one pod's containers, by container id.
#[derive(Default)]
pub struct Probes {
    containers: HashMap<String, Probed>,
    ending: CancellationToken,
}

struct Probed {
    health: Arc<Mutex<Health>>,
    _task: Option<AbortOnDrop<()>>,
}

/// What the probes of a container need.
pub struct Subject {
    pub target: Target,
    pub about: ObjectReference,
    pub recorder: Recorder,
    pub wake: Arc<Notify>,
}

impl Probes {
    /// Begins to probe a container; does nothing when it is being probed. `before` is what was known of it by an
    /// earlier kubelet.
    pub fn watch(&mut self, subject: Subject, before: Health) {
        let id = subject.target.container_id.clone();
        if self.containers.contains_key(&id) {
            return;
        }
        let container = &subject.target.container;
        let health = Arc::new(Mutex::new(Health {
            started: before.started || container.startup_probe.is_none(),
            ready: before.ready || (container.readiness_probe.is_none() && container.startup_probe.is_none()),
            failed: None,
        }));
        let any = container.startup_probe.is_some()
            || container.readiness_probe.is_some()
            || container.liveness_probe.is_some();
        let running = run(subject, Arc::clone(&health), self.ending.clone());
        let task = any.then(|| AbortOnDrop(tokio::spawn(running)));
        self.containers.insert(id, Probed { health, _task: task });
    }

    pub fn health(&self, container_id: &str) -> Option<Health> {
        self.containers.get(container_id).map(|probed| probed.health.lock().clone())
    }

    /// The pod ends: whether it is ready still matters to those who send it work, whether it lives no longer does.
    pub fn pod_ends(&mut self) {
        self.ending.cancel();
    }

    /// Ends the probes of containers that no longer run.
    pub fn keep(&mut self, running: impl Fn(&str) -> bool) {
        self.containers.retain(|id, _| running(id));
    }
}

async fn run(subject: Subject, health: Arc<Mutex<Health>>, ending: CancellationToken) {
    let container = subject.target.container.clone();
    if let Some(probe) = container.startup_probe.clone().filter(|_| !health.lock().started) {
        let passed = ending.run_until_cancelled(startup(&subject, &probe, &health)).await;
        if passed != Some(true) {
            return;
        }
        health.lock().started = true;
        if container.readiness_probe.is_none() {
            health.lock().ready = true;
        }
        subject.wake.notify_one();
    }
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            readiness(&subject, probe, &health).await;
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            // What was found before the end has been acted upon; nothing is found after it.
            let _ended = ending.run_until_cancelled(liveness(&subject, probe, &health)).await;
        }
    };
    tokio::join!(readiness, liveness);
}

/// True once it has passed, false when it has failed too often.
async fn startup(subject: &Subject, probe: &Probe, health: &Mutex<Health>) -> bool {
    let mut rounds = Rounds::new(probe);
    loop {
        rounds.wait().await;
        let outcome = subject.once("Startup", probe).await;
        match rounds.count(&outcome) {
            Some(true) => return true,
            Some(false) => {
                health.lock().failed = Some("startup");
                subject.wake.notify_one();
                return false;
            }
            None => {}
        }
    }
}

async fn readiness(subject: &Subject, probe: &Probe, health: &Mutex<Health>) {
    let mut rounds = Rounds::new(probe);
    loop {
        rounds.wait().await;
        let outcome = subject.once("Readiness", probe).await;
        if let Some(ready) = rounds.count(&outcome) {
            let was = std::mem::replace(&mut health.lock().ready, ready);
            if was != ready {
                subject.wake.notify_one();
            }
        }
    }
}

async fn liveness(subject: &Subject, probe: &Probe, health: &Mutex<Health>) {
    let mut rounds = Rounds::new(probe);
    loop {
        rounds.wait().await;
        let outcome = subject.once("Liveness", probe).await;
        if rounds.count(&outcome) == Some(false) {
            health.lock().failed = Some("liveness");
            subject.wake.notify_one();
            return;
        }
    }
}

impl Subject {
    /// Runs the probe and tells of what isn't a success.
    async fn once(&self, kind: &str, probe: &Probe) -> Outcome {
        let mut outcome = self.attempt(probe).await;
        for _ in 1..TRIES {
            if matches!(outcome, Outcome::Unknown(_)) {
                outcome = self.attempt(probe).await;
            }
        }
        match &outcome {
            Outcome::Success => {}
            Outcome::Warning(output) => {
                self.recorder.warning(&self.about, "ProbeWarning", &format!("{kind} probe warning: {output}"));
            }
            Outcome::Failure(output) => {
                self.recorder.warning(&self.about, "Unhealthy", &format!("{kind} probe failed: {output}"));
            }
            Outcome::Unknown(message) => {
                let text = format!("{kind} probe errored and resulted in unknown state: {message}");
                self.recorder.warning(&self.about, "Unhealthy", &text);
            }
        }
        outcome
    }

    async fn attempt(&self, probe: &Probe) -> Outcome {
        let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1));
        if let Some(action) = &probe.exec {
            self.exec(action, limit).await
        } else if let Some(action) = &probe.http_get {
            match self.target.get(action, limit, "probe").await {
                Ok(answer) => http_outcome(&answer),
                Err(GetError::Invalid(message)) => Outcome::Unknown(message),
                Err(GetError::Failed(message)) => Outcome::Failure(message),
            }
        } else if let Some(action) = &probe.tcp_socket {
            self.target.tcp(action, limit).await
        } else if let Some(action) = &probe.grpc {
            self.target.grpc(action, limit).await
        } else {
            Outcome::Unknown("missing probe handler".into())
        }
    }

    /// Of the environment only what the pod's spec itself says is known to a probe, as upstream.
    async fn exec(&self, action: &ExecAction, limit: Duration) -> Outcome {
        let variables = self.target.container.env.as_deref().unwrap_or_default();
        let lookup = |name: &str| {
            let variable = variables.iter().rev().find(|variable| variable.name == name)?;
            Some(variable.value.clone().unwrap_or_default())
        };
        let command: Vec<String> = action.command.iter().flatten().map(|arg| expand(arg, lookup)).collect();
        let words = command.join(" ");
        match self.target.exec(command, limit).await {
            None => Outcome::Failure(format!("command timed out: {words:?} timed out after {}s", limit.as_secs())),
            Some(Err(error)) => Outcome::Unknown(error.to_string()),
            Some(Ok(output)) if output.exit_code == 0 => Outcome::Success,
            Some(Ok(output)) => Outcome::Failure(output.both()),
        }
    }
}

fn http_outcome(answer: &Answer) -> Outcome {
    match answer.status {
        200..300 => Outcome::Success,
        // A redirect to another host, which is not followed.
        300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
        status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// When a probe runs, and how its outcomes add up.
struct Rounds {
    first: bool,
    delay: Duration,
    period: Duration,
    successes_needed: i32,
    failures_needed: i32,
    /// Outcomes of the same kind in a row.
    last: Option<bool>,
    run: i32,
}

impl Rounds {
    fn new(probe: &Probe) -> Self {
        Self {
            first: true,
            delay: Duration::from_secs(seconds(probe.initial_delay_seconds, 0)),
            period: Duration::from_secs(seconds(probe.period_seconds, 10).max(1)),
            successes_needed: probe.success_threshold.unwrap_or(1).max(1),
            failures_needed: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            run: 0,
        }
    }

    async fn wait(&mut self) {
        let wait = if self.first { self.delay } else { self.period };
        self.first = false;
        tokio::time::sleep(wait).await;
    }

    /// The verdict, once a threshold is reached. What couldn't be tried doesn't count.
    fn count(&mut self, outcome: &Outcome) -> Option<bool> {
        let good = match outcome {
            Outcome::Success | Outcome::Warning(_) => true,
            Outcome::Failure(_) => false,
            Outcome::Unknown(_) => return None,
        };
        self.run = if self.last == Some(good) { self.run + 1 } else { 1 };
        self.last = Some(good);
        let needed = if good { self.successes_needed } else { self.failures_needed };
        (self.run >= needed).then_some(good)
    }
}

fn seconds(value: Option<i32>, default: u64) -> u64 {
    value.filter(|value| *value > 0).map_or(default, |value| value.unsigned_abs().into())
}

/// What an earlier kubelet reported of a container, so that a restart of the kubelet makes no pod unready.
pub fn reported(pod: &k8s_openapi::api::core::v1::Pod, id: &str) -> Health {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let found = lists
        .into_iter()
        .flatten()
        .flat_map(|list| list.iter().flatten())
        .find(|known| known.container_id.as_deref().is_some_and(|known| known.ends_with(id)));
    found.map_or_else(Health::default, |known| Health {
        started: known.started == Some(true),
        ready: known.ready,
        failed: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut rounds = Rounds::new(&probe);
        let (good, bad, unknown) = (Outcome::Success, Outcome::Failure(String::new()), Outcome::Unknown(String::new()));
        let steps = [
            (&good, None),
            (&good, Some(true)),
            (&bad, None),
            (&bad, None),
            (&unknown, None),
            (&bad, Some(false)),
            (&good, None),
            (&bad, None),
            (&good, None),
            (&good, Some(true)),
        ];
        for (index, (outcome, verdict)) in steps.into_iter().enumerate() {
            assert_eq!(rounds.count(outcome), verdict, "step {index}");
        }
    }
}
