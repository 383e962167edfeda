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

use crate::backoff::Backoff;
use crate::fields::Addresses;
use crate::images::Pulls;
use crate::kubelet::Context;
use crate::pod;
use crate::probes::Probes;
use crate::references::PodReferences;
use crate::runtime::Sandbox;
use crate::status::{self, Observed, Record, Waiting};
use crate::status_writer::StatusWriter;
use crate::termination::Stop;
use crate::volumes::{self, Tokens, Volumes};
use crate::{admission, records, sandbox};

/// A safety net: every change wakes the worker, should one be missed it looks again after this.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What failed on the node's side is tried again after this, doubled up to a minute.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

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
    retry: Duration,
    pub(crate) waiting: HashMap<String, Waiting>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) addresses: Addresses,
    failure: Option<(String, String)>,
    admitted: bool,
    pub(crate) ended: bool,
    messages: HashMap<String, String>,
}

impl Worker {
    pub fn new(
        context: Arc<Context>,
        updates: watch::Receiver<Update>,
        wake: Arc<Notify>,
        ending: CancellationToken,
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
            retry: FIRST_RETRY,
            waiting: HashMap::new(),
            sandbox: None,
            addresses: Addresses { host: context.config.node_ip.to_string(), pod: Vec::new() },
            failure: None,
            admitted: false,
            ended: false,
            messages: HashMap::new(),
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
        let delay = self.drive(&spec).await;
        self.publish().await;
        let renewal = self.tokens.renewal().map(|at| at.saturating_duration_since(Instant::now()));
        let deadline = self.time_left(&spec);
        [Some(delay), renewal, deadline].into_iter().flatten().min().unwrap_or(LOOK_AGAIN)
    }

    /// A pod that has come to its end, or comes to it now: nothing more is started in it.
    async fn finished(&mut self, spec: &PodSpec) -> Option<Duration> {
        let phase = self.reported.as_ref().or(self.pod.status.as_ref()).and_then(|status| status.phase.as_deref());
        let done = matches!(phase, Some("Succeeded" | "Failed"));
        if !done && self.failure.is_none() {
            if let Some((reason, message)) = self.refused() {
                self.context.recorder.warning(&pod::reference(&self.pod), &reason, &message);
                self.failure = Some((reason, message));
            } else if self.time_left(spec) == Some(Duration::ZERO) {
                let message = "Pod was active on the node longer than the specified deadline";
                self.context.recorder.normal(&pod::reference(&self.pod), "DeadlineExceeded", message);
                self.failure = Some(("DeadlineExceeded".into(), message.into()));
            } else {
                return None;
            }
        }
        let records = self.records().await;
        if records.iter().any(Record::running) {
            self.stop_all(&records).await;
        }
        self.probes.keep(|_| false);
        self.publish().await;
        Some(LOOK_AGAIN)
    }

    /// Asked once, and never of a pod that an earlier kubelet has admitted.
    fn refused(&mut self) -> Option<(String, String)> {
        if std::mem::replace(&mut self.admitted, true) {
            return None;
        }
        let refusal = admission::admit(&self.pod).err()?;
        Some((refusal.reason.to_owned(), format!("Pod was rejected: {}", refusal.message)))
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
        if alive == Some(false) {
            self.context.recorder.normal(
                &pod::reference(&self.pod),
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
            self.sandbox = None;
            if let Err(error) = self.context.runtime.remove_sandbox(&id).await {
                return Err(self.failed("FailedKillPod", &format!("error killing pod: {error}")));
            }
        }
        if alive.is_none() {
            self.sandbox = None;
        }
        if self.sandbox.is_none() {
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
        records::gather(&*self.context.runtime, statuses, &self.probes, &mut self.messages).await
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
            failure: self.failure.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
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
