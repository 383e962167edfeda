//! One pod's task: looks at what the runtime has, takes the next step towards what the pod's spec asks for, reports,
//! and sleeps until something changes. It may start anywhere: after a restart it finds its containers by their labels.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::Refusal;
use crate::backoff::Backoff;
use crate::drive::{Delayed, Driven};
use crate::fields::Addresses;
use crate::images::Pulls;
use crate::kubelet::Context;
use crate::local_storage;
use crate::pod;
use crate::probes::{self, Probes};
use crate::references::PodReferences;
use crate::runtime::{RuntimeError, Sandbox};
use crate::status::{self, Failure, Observed, Record, Waiting};
use crate::status_writer::StatusWriter;
use crate::termination::Stop;
use crate::volumes::{self, Tokens, Volumes};
use crate::{records, sandbox};

/// A safety net: every change wakes the worker, should one be missed it looks again after this.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What failed on the node's side is tried again after this, doubled up to a minute.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The reason for which the eviction manager ends pods.
const EVICTED: &str = "Evicted";
const DEADLINE_EXCEEDED: &str = "Pod was active on the node longer than the specified deadline";

/// The newest that is known of a pod.
#[derive(Clone)]
pub struct Update {
    pub pod: Arc<Pod>,
    /// The API server no longer has it.
    pub gone: bool,
}

impl Update {
    pub fn ending(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

pub struct Worker {
    pub(crate) context: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) updates: watch::Receiver<Update>,
    /// Set off when the pod is to end: cuts pulls and hooks short.
    pub(crate) ending: CancellationToken,
    pub(crate) wake: Arc<Notify>,
    pub(crate) references: PodReferences,
    tokens: Tokens,
    volumes: Volumes,
    pub(crate) volume_places: BTreeMap<String, PathBuf>,
    pub(crate) status: StatusWriter,
    reported: Option<PodStatus>,
    pub(crate) probes: Probes,
    pub(crate) pulls: Pulls,
    pub(crate) crashes: Backoff,
    pub(crate) delays: HashMap<String, Delayed>,
    retry: Duration,
    pub(crate) waiting: HashMap<String, Waiting>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) addresses: Addresses,
    refusal: Option<Refusal>,
    failure: Option<Failure>,
    /// Sandbox and volumes of a pod that is over have been let go.
    released: bool,
    pub(crate) ended: bool,
    messages: HashMap<String, String>,
    storage_looked: Option<Instant>,
}

impl Worker {
    pub fn new(
        context: Arc<Context>,
        updates: watch::Receiver<Update>,
        wake: Arc<Notify>,
        ending: CancellationToken,
        refusal: Option<Refusal>,
    ) -> Self {
        let pod = Arc::clone(&updates.borrow().pod);
        let directory = pod::directory(&context.config.data_dir, pod::uid(&pod));
        Self {
            references: context.references.of_pod(pod::namespace(&pod), Arc::clone(&wake)),
            tokens: Tokens::new(context.client.clone()),
            volumes: Volumes::new(&directory),
            volume_places: BTreeMap::new(),
            status: StatusWriter::new(Arc::clone(&context), &pod),
            reported: None,
            probes: Probes::default(),
            pulls: Pulls::default(),
            crashes: Backoff::default(),
            delays: HashMap::new(),
            retry: FIRST_RETRY,
            waiting: HashMap::new(),
            sandbox: None,
            addresses: Addresses { host: context.config.node_ip.to_string(), pod: Vec::new() },
            refusal,
            failure: None,
            released: false,
            ended: false,
            messages: HashMap::new(),
            storage_looked: None,
            context,
            pod,
            updates,
            ending,
            wake,
        }
    }

    /// Runs until the pod is gone from the API server and from the node.
    pub async fn run(mut self) {
        loop {
            let update = self.updates.borrow_and_update().clone();
            self.pod = Arc::clone(&update.pod);
            if update.ending() {
                return self.end().await;
            }
            let next = self.step().await;
            let wake = Arc::clone(&self.wake);
            tokio::select! {
                changed = self.updates.changed() => if changed.is_err() { return },
                () = wake.notified() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// One look, and whatever it calls for; how long to sleep at most.
    async fn step(&mut self) -> Duration {
        let spec = self.pod.spec.clone().unwrap_or_default();
        if let Some(done) = self.finished(&spec).await {
            return done;
        }
        if let Err(delay) = self.prepare(&spec).await {
            self.publish().await;
            return delay;
        }
        let delay = match self.drive(&spec).await {
            Driven::On(delay) => delay,
            Driven::Over => {
                // Sidecars outlast what they serve, and end before the pod says that it is over.
                let records = self.records().await;
                self.stop_all(&records).await;
                self.ended = true;
                Duration::ZERO
            }
        };
        self.publish().await;
        let renewal = self.tokens.renewal().map(|at| at.saturating_duration_since(Instant::now()));
        let deadline = self.time_left(&spec);
        let storage = local_storage::is_limited(&spec).then_some(local_storage::LOOK);
        [Some(delay), renewal, deadline, storage].into_iter().flatten().min().unwrap_or(LOOK_AGAIN)
    }

    /// A pod that has come to its end, or comes to it now: nothing more is started in it.
    async fn finished(&mut self, spec: &PodSpec) -> Option<Duration> {
        let phase = self.reported.as_ref().or(self.pod.status.as_ref()).and_then(|status| status.phase.as_deref());
        let done = matches!(phase, Some("Succeeded" | "Failed"));
        if !done && self.failure.is_none() {
            if let Some(refusal) = self.refusal.take() {
                self.context.recorder.warning(&pod::reference(&self.pod), &refusal.reason, &refusal.message);
                let message = format!("Pod was rejected: {}", refusal.message);
                self.failure = Some(Failure { reason: refusal.reason, message, refused: true });
            } else if self.time_left(spec) == Some(Duration::ZERO) {
                let (reason, message) = ("DeadlineExceeded".to_owned(), DEADLINE_EXCEEDED.to_owned());
                self.context.recorder.normal(&pod::reference(&self.pod), &reason, &message);
                self.failure = Some(Failure { reason, message, refused: false });
            } else if let Some(message) = self.local_storage_excess(spec).await {
                self.context.recorder.warning(&pod::reference(&self.pod), EVICTED, &message);
                let records = self.records().await;
                self.stop(true).all(&records, Duration::ZERO).await;
                self.failure = Some(Failure { reason: EVICTED.to_owned(), message, refused: false });
            } else {
                return None;
            }
        }
        if self.released {
            return Some(LOOK_AGAIN);
        }
        let records = self.records().await;
        self.stop_all(&records).await;
        self.probes.keep(|_| false);
        self.ended = true;
        // One that an earlier kubelet has refused, or let go, has nothing new to say.
        if self.failure.is_some() || !records.is_empty() {
            self.publish().await;
        }
        Some(self.release().await)
    }

    /// A pod that is over keeps its containers' states and logs until it is deleted, and nothing else of the node.
    async fn release(&mut self) -> Duration {
        let stopped = self.context.runtime.stop_sandbox(pod::uid(&self.pod)).await;
        let directory = pod::directory(&self.context.config.data_dir, pod::uid(&self.pod));
        let torn_down = volumes::tear_down(directory, &["volumes", "volume-subpaths"]).await;
        self.sandbox = None;
        if let Some(error) = stopped.err().map(|error| error.to_string()).or(torn_down.err()) {
            tracing::warn!(pod = %pod::full_name(&self.pod), error, "a pod that is over is not let go yet");
            return FIRST_RETRY;
        }
        self.released = true;
        LOOK_AGAIN
    }

    /// What the pod takes too much of the node's disk with, looked at now and then.
    async fn local_storage_excess(&mut self, spec: &PodSpec) -> Option<String> {
        let is_due = self.storage_looked.is_none_or(|at| at.elapsed() >= local_storage::LOOK);
        if !is_due || !local_storage::is_limited(spec) {
            return None;
        }
        self.storage_looked = Some(Instant::now());
        let records = self.records().await;
        local_storage::excess(&self.context, &self.pod, &self.volume_places, &records).await
    }

    fn time_left(&self, spec: &PodSpec) -> Option<Duration> {
        let limit = Duration::from_secs(spec.active_deadline_seconds?.unsigned_abs());
        let started = self.reported.as_ref().or(self.pod.status.as_ref())?.start_time.as_ref()?.0;
        let active = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        Some(limit.saturating_sub(active))
    }

    /// Sandbox and volumes.
    async fn prepare(&mut self, spec: &PodSpec) -> Result<(), Duration> {
        let id = pod::uid(&self.pod).to_owned();
        let alive = self.context.runtime.sandboxes().iter().find(|known| known.id == id).map(|known| known.ready);
        if alive != Some(true) {
            self.sandbox = None;
        }
        if alive == Some(false) {
            let records = self.records().await;
            if !self.has_work(spec, &records) {
                return Ok(());
            }
            self.clear_dead_sandbox(spec, &records).await?;
        }
        // A sandbox that an earlier kubelet made is only taken back: told meanwhile, the pod would have no address.
        if self.sandbox.is_none() && alive != Some(true) {
            self.publish().await;
        }
        let inputs = volumes::Inputs {
            pod: &self.pod,
            sources: &self.references,
            tokens: &self.tokens,
            addresses: &self.addresses,
            node_cpu_milli: self.context.capacity.cpu_milli,
            node_memory_bytes: self.context.capacity.memory_bytes,
        };
        let known = self.sandbox.clone();
        let sandbox = async {
            match known {
                Some(sandbox) => Ok(sandbox),
                None => sandbox::ensure(&self.context, &self.pod).await,
            }
        };
        let (sandbox, places) = tokio::join!(sandbox, self.volumes.set_up(&inputs));
        match sandbox {
            Ok(sandbox) => {
                self.addresses = sandbox::addresses(&self.context, &self.pod, &sandbox);
                self.sandbox = Some(sandbox);
            }
            Err(error) => {
                return Err(self.failed("FailedCreatePodSandBox", &format!("Failed to create pod sandbox: {error}")));
            }
        }
        match places {
            Ok(places) => self.volume_places = places,
            // What runs goes on with the volumes as they are.
            Err(error) if self.volume_places.len() < spec.volumes.as_ref().map_or(0, Vec::len) => {
                return Err(self.failed("FailedMount", &error.to_string()));
            }
            Err(error) => tracing::warn!(pod = %pod::full_name(&self.pod), %error, "volume not updated"),
        }
        self.retry = FIRST_RETRY;
        Ok(())
    }

    /// Takes away what a sandbox leaves whose shim has died, or that did not outlive the machine. Its init containers
    /// run again in the next one.
    async fn clear_dead_sandbox(&mut self, spec: &PodSpec, records: &[Record]) -> Result<(), Duration> {
        let about = pod::reference(&self.pod);
        let message = "Pod sandbox changed, it will be killed and re-created.";
        self.context.recorder.normal(&about, "SandboxChanged", message);
        let runtime = Arc::clone(&self.context.runtime);
        let init = |record: &&Record| pod::init_containers(spec).iter().any(|init| init.name == record.name());
        let cleared = async {
            runtime.stop_sandbox(pod::uid(&self.pod)).await?;
            for record in records.iter().filter(init) {
                runtime.remove_container(&record.status.id).await?;
            }
            Ok::<(), RuntimeError>(())
        };
        let cleared = cleared.await;
        cleared.map_err(|error| self.failed("FailedKillPod", &format!("error killing pod: {error}")))
    }

    fn failed(&mut self, reason: &str, message: &str) -> Duration {
        self.context.recorder.warning(&pod::reference(&self.pod), reason, message);
        let delay = self.retry;
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
        delay
    }

    pub(crate) fn stop(&self, drain: bool) -> Stop<'_> {
        let address = self.addresses.pod.first().and_then(|ip| ip.parse().ok());
        Stop { context: &self.context, pod: &self.pod, address, drain }
    }

    async fn stop_all(&self, records: &[Record]) {
        let grace = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        self.stop(true).all(records, Duration::from_secs(grace.unsigned_abs())).await;
    }

    /// This pod's containers, oldest first, with what the status needs of them.
    pub(crate) async fn records(&mut self) -> Vec<Record> {
        let statuses = self.context.runtime.containers(pod::uid(&self.pod));
        // Until it is probed, a container is what an earlier kubelet found it to be: a restart makes none unready.
        let health = |id: &str| self.probes.health(id).unwrap_or_else(|| probes::reported(&self.pod, id));
        records::gather(&*self.context.runtime, statuses, health, &mut self.messages).await
    }

    /// Computes the status and has it written if it is new.
    pub(crate) async fn publish(&mut self) {
        let records = self.records().await;
        let pod = self.as_reported();
        let status = status::compute(&Observed {
            pod: &pod,
            records: &records,
            waiting: &self.waiting,
            sandbox_ready: self.sandbox.is_some() && !self.ended,
            addresses: &self.addresses,
            failure: self.failure.as_ref(),
            ended: self.ended,
            now: Timestamp::now(),
        });
        self.reported = Some(status.clone());
        self.status.write(status);
    }

    /// The pod with the status that this worker reported last, which the informer may not show yet, and the
    /// conditions of others as the informer has them.
    fn as_reported(&self) -> Pod {
        let mut pod = (*self.pod).clone();
        let Some(mut reported) = self.reported.clone() else { return pod };
        let theirs = pod.status.take().and_then(|status| status.conditions).unwrap_or_default();
        let conditions = reported.conditions.get_or_insert_default();
        conditions.retain(|condition| status::OWN_CONDITIONS.contains(&condition.type_.as_str()));
        conditions.extend(theirs.into_iter().filter(|theirs| !status::OWN_CONDITIONS.contains(&theirs.type_.as_str())));
        pod.status = Some(reported);
        pod
    }
}
