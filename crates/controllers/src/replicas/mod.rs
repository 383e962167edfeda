//! So many pods of one template: the work of the ReplicaSet and the ReplicationController controllers.

mod order;
mod set;
mod slow_start;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tug_api::kinds::core::POD;
use tug_api::{Kind, Object, ObjectKey};
use tug_client::{Informer, Next, Queue, Recorder, Scope};

use crate::collection::Collection;
use crate::controller::Context;
use crate::error::{Error, Result, Step, code, is_namespace_terminating, message};
use crate::owner::{self, Owner, controller_reference};
use crate::pod::Pod;
use crate::pods::Pods;
use crate::resources::reference;

use set::Set;
use slow_start::slow_start;

/// Pods made or deleted before the set is looked at again.
const BURST: usize = 500;
/// Sets worked on at once.
const WORKERS: usize = 5;

struct Replicas {
    kind: &'static Kind,
    client: kube::Client,
    recorder: Recorder,
    sets: Informer<Value>,
    pods: Arc<Pods>,
}

/// What became of a number of writes: the revision of the last one, and why one failed.
#[derive(Default)]
struct Outcome {
    revision: u64,
    failure: Option<String>,
}

pub(crate) async fn run(context: Context, kind: &'static Kind, component: &'static str) {
    let scope = Scope {
        group: kind.group.into(),
        version: kind.version.into(),
        plural: kind.plural.into(),
        ..Scope::default()
    };
    let (sets, pods) = (context.informers.untyped(scope), context.pods.clone());
    let queue = Queue::new();
    let add = queue.clone();
    sets.subscribe(move |change| add.add(change.object().key.clone()));
    let (add, of_pod) = (queue.clone(), sets.clone());
    pods.informer
        .subscribe(move |change| owner::to_wake(kind, &of_pod, change).into_iter().for_each(|key| add.add(key)));
    sets.synced().await;
    pods.informer.synced().await;
    let (client, recorder) = (context.client.clone(), context.recorder(component));
    let replicas = Replicas { kind, client, recorder, sets, pods };
    context.work(queue, WORKERS, |key| replicas.reconcile(key)).await;
}

// === impl Replicas ===

impl Replicas {
    async fn reconcile(&self, key: ObjectKey) -> Result<Next> {
        let Some(object) = self.sets.object(&key) else { return Ok(Next::Wait) };
        let set = match Set::read(self.kind, &object) {
            Ok(set) => set,
            Err(error) => {
                tracing::warn!(kind = self.kind.kind, %key, %error, "cannot be read");
                return Ok(Next::Wait);
            }
        };
        let owner = Owner { kind: self.kind, object: &object, selector: &set.selector };
        let owners = Collection::new(&self.client, self.kind, &key.namespace);
        let theirs = Collection::new(&self.client, &POD, &key.namespace);
        let mut active = self.pods.controlled_by(&object.meta.uid);
        active.extend(self.pods.orphans_in(&key.namespace));
        active.retain(Pod::is_active);
        let (pods, claimed) = owner.claim_all(&owners, &theirs, active).await?;
        let outcome = match object.meta.deletion_timestamp {
            Some(_) => Outcome::default(),
            None => self.manage(&owner, &set, &theirs, pods).await,
        };
        // What was written is known before the pods are counted again, here or the next time: never one too many.
        self.pods.informer.reached(outcome.revision.max(claimed)).await;
        let next = self.update_status(&owners, &set, &object, outcome.failure.as_deref()).await?;
        match outcome.failure {
            Some(failure) => Err(Error::Pods(failure)),
            None => Ok(next),
        }
    }

    /// Makes or deletes pods.
    async fn manage(&self, owner: &Owner<'_>, set: &Set, collection: &Collection, pods: Vec<Pod>) -> Outcome {
        let about = reference(self.kind, owner.object);
        if pods.len() < set.replicas {
            let Some(pod) = set.pod(&controller_reference(self.kind, owner.object)) else {
                return Outcome { failure: Some("unable to create pods, no labels".into()), ..Outcome::default() };
            };
            let json = pod.to_string().into_bytes();
            let missing = (set.replicas - pods.len()).min(BURST);
            return slow_start(missing, || self.create(collection, json.clone(), &about)).await;
        }
        let surplus = (pods.len() - set.replicas).min(BURST);
        if surplus == 0 {
            return Outcome::default();
        }
        let chosen = order::choose(pods, &self.related(owner.object), surplus, Timestamp::now());
        join_all(chosen.iter().map(|pod| self.delete(collection, pod, &about))).await.into_iter().collect()
    }

    async fn create(&self, pods: &Collection, json: Vec<u8>, about: &ObjectReference) -> Result<u64, String> {
        match pods.create(json).await {
            Ok(pod) => {
                self.recorder.normal(about, "SuccessfulCreate", &format!("Created pod: {}", pod.key.name));
                Ok(pod.revision)
            }
            Err(error) if is_namespace_terminating(&error) => Ok(0),
            Err(error) => {
                let message = message(&error);
                self.recorder.warning(about, "FailedCreate", &format!("Error creating: {message}"));
                Err(message)
            }
        }
    }

    async fn delete(&self, pods: &Collection, pod: &Pod, about: &ObjectReference) -> Result<u64, String> {
        match pods.delete(pod.name(), pod.uid()).await {
            Ok(deleted) => {
                self.recorder.normal(about, "SuccessfulDelete", &format!("Deleted pod: {}", pod.name()));
                Ok(deleted.revision)
            }
            // Gone, or another pod of that name.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(0),
            Err(error) => {
                let message = message(&error);
                self.recorder.warning(about, "FailedDelete", &format!("Error deleting: {message}"));
                Err(format!("unable to delete pods: {message}"))
            }
        }
    }

    /// Pods of all sets that have the same controller as this one, as the old and the new set of a Deployment.
    fn related(&self, object: &Object) -> Vec<Pod> {
        let Some(controller) = object.meta.controller() else { return Vec::new() };
        let uids = self.sets.owned_by(&controller.uid);
        let uids = uids.iter().filter_map(|set| set["metadata"]["uid"].as_str());
        uids.flat_map(|uid| self.pods.controlled_by(uid)).collect()
    }

    /// Writes the status if it isn't what it should be; asks to be called when the next pod becomes available.
    async fn update_status(
        &self,
        sets: &Collection,
        set: &Set,
        object: &Object,
        failure: Option<&str>,
    ) -> Result<Next> {
        let now = Timestamp::now();
        let mut own = self.pods.controlled_by(&object.meta.uid);
        own.retain(|pod| set.selector.matches(&pod.object.meta.labels));
        let terminating = own.iter().filter(|pod| pod.is_terminating()).count();
        own.retain(Pod::is_active);
        let status = set.next_status(&own, terminating, failure, now);
        if status != set.status {
            let mut value = object.value().map_err(|error| Error::Unreadable(error.to_string()))?;
            value["status"] = serde_json::to_value(status).map_err(|error| Error::Unreadable(error.to_string()))?;
            match sets.replace_status(&set.name, &value).await {
                Ok(written) => self.sets.reached(written.revision).await,
                // It has changed or gone meanwhile: that change calls again.
                Err(error) if matches!(code(&error), Some(404 | 409)) => {}
                other => other.map(|_| ()).step("updating the status")?,
            }
        }
        let waits = own.iter().filter_map(|pod| pod.available_in(set.min_ready, now)).filter(|wait| !wait.is_zero());
        Ok(waits.min().map_or(Next::Wait, Next::After))
    }
}

impl FromIterator<Result<u64, String>> for Outcome {
    fn from_iter<T: IntoIterator<Item = Result<u64, String>>>(writes: T) -> Self {
        let mut outcome = Self::default();
        for write in writes {
            match write {
                Ok(revision) => outcome.revision = outcome.revision.max(revision),
                Err(failure) => outcome.failure = outcome.failure.or(Some(failure)),
            }
        }
        outcome
    }
}
