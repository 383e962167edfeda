//! The end of a pod: its containers are stopped, what they did is reported, its traces on the node are removed, and only
//! then does the API server forget it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::time::Instant;

use crate::log_files;
use crate::pod;
use crate::status::Record;
use crate::volumes;
use crate::worker::{Update, Worker};

const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    /// Returns once the pod is gone from the node and from the API server.
    pub(crate) async fn end(mut self) {
        self.probes.pod_ends();
        let records = self.records().await;
        self.stop_within_grace(&records).await;
        self.ended = true;
        self.publish().await;
        let gone = self.updates.borrow().gone;
        if gone {
            self.clean_up().await;
            return;
        }
        self.clean_up().await;
        let mut updates = self.updates.clone();
        let reported = async {
            self.status.flushed().await;
            delete(&self.context.client, &self.pod).await;
        };
        tokio::select! {
            () = reported => {}
            // Someone else has deleted it: there is nobody left to report to. A closed channel says the same.
            _ = updates.wait_for(|update| update.gone) => {}
        }
    }

    /// A grace period that is shortened while it runs is shortened here too.
    async fn stop_within_grace(&mut self, records: &[Record]) {
        let began = Instant::now();
        let mut updates = self.updates.clone();
        let grace = grace(&updates.borrow_and_update());
        let mut deadline = began + grace;
        let mut shortened = false;
        let stop = self.stop(true);
        let stopping = stop.all(records, grace);
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => return,
                Ok(()) = updates.changed() => {
                    let update = updates.borrow_and_update().clone();
                    let wanted = if update.gone { Instant::now() } else { began + self::grace(&update) };
                    if wanted < deadline {
                        deadline = wanted;
                        shortened = true;
                    }
                }
                () = tokio::time::sleep_until(deadline), if shortened => {
                    shortened = false;
                    for record in records.iter().filter(|record| record.running()) {
                        if let Err(error) = self.context.runtime.kill_container(&record.status.id).await {
                            tracing::warn!(container = record.name(), %error, "kill failed");
                        }
                    }
                }
            }
        }
    }

    /// Sandbox, volumes and logs; retried until done, for a pod's name may be used again after it.
    async fn clean_up(&mut self) {
        let directory = pod::directory(&self.context.config.data_dir, pod::uid(&self.pod));
        while let Err(error) = self.context.runtime.remove_sandbox(pod::uid(&self.pod)).await {
            tracing::warn!(pod = %pod::full_name(&self.pod), %error, "sandbox not removed yet");
            tokio::time::sleep(RETRY).await;
        }
        while let Err(error) = volumes::tear_down(directory.clone(), &[""]).await {
            tracing::warn!(pod = %pod::full_name(&self.pod), error, "volumes not removed yet");
            tokio::time::sleep(RETRY).await;
        }
        log_files::remove(&self.context.config, &self.pod).await;
    }
}

/// How long the containers may take to end: a pod that the API server has forgotten was deleted with no grace, and gets
/// the least (`calculateEffectiveGracePeriod`).
fn grace(update: &Update) -> Duration {
    if update.gone {
        return Duration::from_secs(1);
    }
    let meta = &update.pod.metadata;
    let spec = update.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let seconds = meta.deletion_grace_period_seconds.or(spec).unwrap_or(30);
    Duration::from_secs(seconds.unsigned_abs().max(1))
}

/// Takes the pod out of the API server: this one, not another of its name.
async fn delete(client: &kube::Client, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod::namespace(pod));
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    loop {
        match api.delete(pod::name(pod), &parameters).await {
            Ok(_) => return,
            // Gone, or another pod of the same name by now.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return,
            Err(error) => {
                tracing::warn!(pod = %pod::full_name(pod), %error, "not deleted yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
