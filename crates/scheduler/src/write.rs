//! What a turn decided, told to the API: bindings, and why a pod waits.

use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::change::Change;
use crate::diagnosis::Nomination;
use crate::pod::PodInfo;
use crate::{NAME, Shared};

/// An event's message is cut here, upstream's `NoteLengthLimit`.
const LONGEST_MESSAGE: usize = 1024;

/// A pod is to be on a node. Counted there already.
pub struct Binding {
    pub pod: Arc<PodInfo>,
    pub node: String,
    /// Need their volumes first.
    pub claims: Vec<String>,
}

/// A pod is to be told why it waits, and what was done for it.
pub struct Report {
    pub pod: Arc<PodInfo>,
    reason: &'static str,
    message: String,
    nomination: Nomination,
    /// Pods of lower priority that had been promised the node.
    yielding: Vec<Arc<PodInfo>>,
}

impl Report {
    pub fn unschedulable(
        pod: Arc<PodInfo>,
        message: String,
        nomination: Nomination,
        yielding: Vec<Arc<PodInfo>>,
    ) -> Self {
        Self { pod, reason: "Unschedulable", message, nomination, yielding }
    }

    pub fn error(pod: Arc<PodInfo>, message: String) -> Self {
        Self { pod, reason: "SchedulerError", message, nomination: Nomination::Nowhere, yielding: Vec::new() }
    }

    /// Whether there is more to do than to record an event.
    pub fn writes(&self) -> bool {
        !self.patch().is_empty() || matches!(self.nomination, Nomination::Node { .. })
    }

    /// What isn't in the pod's status already.
    fn patch(&self) -> Map<String, Value> {
        let wishes = self.pod.wishes();
        let mut status = Map::new();
        let held = wishes.condition.as_ref().filter(|held| held.status == "False");
        let is_said = held.is_some_and(|held| {
            held.reason.as_deref() == Some(self.reason) && held.message.as_deref() == Some(&self.message)
        });
        if !is_said {
            let condition = PodCondition {
                type_: "PodScheduled".into(),
                status: "False".into(),
                reason: Some(self.reason.into()),
                message: Some(self.message.clone()),
                // That of the last change between true and false.
                last_transition_time: held
                    .and_then(|held| held.last_transition_time.clone())
                    .or_else(|| Some(Time(Timestamp::now()))),
                observed_generation: wishes.generation,
                last_probe_time: None,
            };
            status.insert("conditions".into(), json!([condition]));
        }
        let held = self.pod.nominated_node.as_deref();
        match &self.nomination {
            Nomination::Nowhere if held.is_some() => drop(status.insert("nominatedNodeName".into(), Value::Null)),
            Nomination::Node { name, .. } if held != Some(name) => {
                status.insert("nominatedNodeName".into(), json!(name));
            }
            _ => {}
        }
        status
    }
}

impl Shared {
    pub async fn bind(&self, Binding { pod, node, claims }: Binding) {
        if !claims.is_empty()
            && let Err(error) = self.provision(&pod, &node, &claims).await
        {
            return self.not_bound(pod, &format!("running PreBind plugin \"VolumeBinding\": {error}")).await;
        }
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "namespace": pod.key.namespace, "name": pod.key.name, "uid": pod.uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let params = PostParams::default();
        let bound = self.pods(&pod).create_subresource::<_, Value>("binding", &pod.key.name, &params, &binding).await;
        match bound {
            Ok(_) => {
                self.state.lock().queue.remove(&pod.uid);
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder.normal(&reference(&pod), "Scheduled", &message);
            }
            Err(error) => self.not_bound(pod, &format!("running Bind plugin \"DefaultBinder\": {error}")).await,
        }
    }

    /// Takes back what was assumed; the pod tries again after a rest, if it is still there.
    async fn not_bound(&self, pod: Arc<PodInfo>, error: &str) {
        let known = self.change(|state| {
            let now = Instant::now();
            if state.cache.forget(&pod.uid) {
                state.queue.happened(&Change::pod(Some(pod.clone()), None), now);
            }
            let latest = state.queue.fail(&pod.uid, now)?;
            let report = Report::error(latest, error.into());
            if report.writes() {
                state.queue.writing(&pod.uid);
            }
            Some(report)
        });
        match known {
            Some(report) => self.report(report).await,
            None => tracing::debug!(pod = %pod.key, %error, "a pod that is gone isn't bound"),
        }
    }

    /// Says in an event and in the pod's condition why it waits, and ends those who make room for it.
    pub async fn report(&self, report: Report) {
        let pod = &report.pod;
        tracing::debug!(pod = %pod.key, reason = report.reason, message = report.message, "a pod waits");
        self.recorder.warning(&reference(pod), "FailedScheduling", &shortened(&report.message));
        if !report.writes() {
            return;
        }
        let status = report.patch();
        if !status.is_empty()
            && let Err(error) = self.patch_status(pod, status.into()).await
        {
            tracing::debug!(pod = %pod.key, %error, "a pod's condition can't be written");
        }
        let room = match &report.nomination {
            Nomination::Node { name, victims } => self.make_room(pod, name, victims, &report.yielding).await,
            _ => Ok(()),
        };
        self.change(|state| {
            state.queue.written(&pod.uid);
            if let Err(error) = room {
                tracing::info!(pod = %pod.key, %error, "no room could be made");
                // Nothing may happen now that would wake it.
                state.queue.wake_one(&pod.uid, Instant::now());
            }
        });
    }

    /// Ends `victims`, all at once.
    async fn make_room(
        &self,
        pod: &PodInfo,
        node: &str,
        victims: &[Arc<PodInfo>],
        yielding: &[Arc<PodInfo>],
    ) -> Result<(), kube::Error> {
        for other in yielding {
            if let Err(error) = self.patch_status(other, json!({ "nominatedNodeName": null })).await {
                tracing::debug!(pod = %other.key, %error, "a nomination can't be withdrawn");
            }
        }
        let standing = victims.iter().filter(|victim| !victim.terminating);
        try_join_all(standing.map(|victim| self.preempt(pod, node, victim))).await?;
        Ok(())
    }

    async fn preempt(&self, pod: &PodInfo, node: &str, victim: &PodInfo) -> Result<(), kube::Error> {
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": Time(Timestamp::now()),
        });
        let ended = async {
            self.patch_status(victim, json!({ "conditions": [condition] })).await?;
            let uid = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
            let params = DeleteParams::default().preconditions(uid);
            self.pods(victim).delete(&victim.key.name, &params).await.map(drop)
        };
        match ended.await {
            // Gone already, or another of its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
            outcome => outcome?,
        }
        let message = format!("Preempted by pod {} on node {node}", pod.uid);
        self.recorder.normal(&reference(victim), "Preempted", &message);
        Ok(())
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) -> Result<(), kube::Error> {
        let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid }, "status": status }));
        self.pods(pod).patch_status(&pod.key.name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.key.namespace)
    }
}

fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.key.namespace.clone()),
        name: Some(pod.key.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}

/// As much as an event holds.
fn shortened(message: &str) -> String {
    const MORE: &str = " ...";
    if message.len() <= LONGEST_MESSAGE {
        return message.into();
    }
    let most = LONGEST_MESSAGE - MORE.len();
    let end = (0..=most).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{MORE}", &message[..end])
}
