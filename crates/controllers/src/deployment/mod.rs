//! Deployments: pods of a template, exchanged step by step when the template changes.
//!
//! Each template has a ReplicaSet of its own. What sizes they should have ([`scale`]) and what is said of it
//! ([`status`]) follows from what is read; this file reads, decides the order of things, and writes.

mod newest;
mod revision;
mod scale;
mod status;
mod template;
#[cfg(test)]
mod testing;
mod view;

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::Value;
use tug_api::kinds::apps::{DEPLOYMENT, REPLICA_SET};
use tug_api::{Kind, Object, ObjectKey};
use tug_client::{Informer, Next, Queue, Recorder, Scope};

use crate::collection::Collection;
use crate::controller::{Context, Controller};
use crate::error::{Error, Result, Step, code};
use crate::owner::{self, Owner};
use crate::pods::Pods;
use crate::resources::reference;

use scale::Size;
use view::{Deployment, Set};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "deployment-controller", account: "deployment-controller", run: |context| run(context).boxed() };

/// Deployments worked on at once.
const WORKERS: usize = 5;

struct Deployments {
    client: kube::Client,
    recorder: Recorder,
    deployments: Informer<Value>,
    sets: Informer<Value>,
    pods: Arc<Pods>,
}

/// A Deployment being worked on.
struct Rollout {
    deployment: Deployment,
    /// What its status becomes.
    status: DeploymentStatus,
    /// The set of the template as it is now.
    newest: Option<Set>,
    /// All others, oldest first.
    old: Vec<Set>,
}

async fn run(context: Context) {
    let follow = |kind: &Kind| {
        let (group, version, plural) = (kind.group.into(), kind.version.into(), kind.plural.into());
        context.informers.untyped(Scope { group, version, plural, ..Scope::default() })
    };
    let (deployments, sets, pods) = (follow(&DEPLOYMENT), follow(&REPLICA_SET), context.pods.clone());
    let queue = Queue::new();
    let add = queue.clone();
    deployments.subscribe(move |change| add.add(change.object().key.clone()));
    let (add, owners) = (queue.clone(), deployments.clone());
    sets.subscribe(move |change| owner::to_wake(&DEPLOYMENT, &owners, change).into_iter().for_each(|key| add.add(key)));
    deployments.synced().await;
    sets.synced().await;
    pods.informer.synced().await;
    let (client, recorder) = (context.client.clone(), context.recorder("deployment-controller"));
    let deployments = Deployments { client, recorder, deployments, sets, pods };
    context.work(queue, WORKERS, |key| deployments.reconcile(key)).await;
}

// === impl Deployments ===

impl Deployments {
    async fn reconcile(&self, key: ObjectKey) -> Result<Next> {
        let Some(object) = self.deployments.object(&key) else { return Ok(Next::Wait) };
        let deployment = match Deployment::read(object) {
            Ok(deployment) => deployment,
            Err(error) => {
                tracing::warn!(deployment = %key, %error, "cannot be read");
                return Ok(Next::Wait);
            }
        };
        match self.roll_out(deployment).await {
            // What was read has changed meanwhile: that change calls again.
            Err(Error::Api { source, .. }) if code(&source) == Some(409) => Ok(Next::Wait),
            other => other,
        }
    }

    async fn roll_out(&self, deployment: Deployment) -> Result<Next> {
        let sets = self.claim(&deployment).await?;
        let mut rollout = Rollout::new(deployment, sets);
        let now = Timestamp::now();
        if rollout.deployment.object.meta.deletion_timestamp.is_some() {
            self.sync_newest(&mut rollout, now).await?;
            return self.write_counts(&rollout, now).await;
        }
        status::note_pause(&rollout.deployment, &mut rollout.status, now);
        self.sync_newest(&mut rollout, now).await?;
        let Rollout { deployment, newest, old, .. } = &rollout;
        if deployment.spec.paused || scale::is_scaling(deployment, newest.as_ref(), old) {
            let sizes = scale::proportional(deployment, newest.as_ref(), old);
            self.resize(&mut rollout, sizes).await?;
            if rollout.deployment.spec.paused {
                self.forget_old(&rollout).await?;
            }
            return self.write_counts(&rollout, now).await;
        }
        if deployment.is_rolling() { self.roll(rollout, now).await } else { self.recreate(rollout, now).await }
    }

    async fn roll(&self, mut rollout: Rollout, now: Timestamp) -> Result<Next> {
        if rollout.newest.is_none() {
            let Some(created) = self.create_newest(&mut rollout, now).await? else { return Ok(Next::Wait) };
            rollout.newest = Some(created);
        }
        let Rollout { deployment, newest: Some(newest), old, .. } = &rollout else { return Ok(Next::Wait) };
        let sizes = scale::rolling(deployment, newest, old);
        if sizes.is_empty() {
            self.forget_old_when_complete(&rollout).await?;
        }
        self.resize(&mut rollout, sizes).await?;
        self.write_rollout(&rollout, now).await
    }

    /// No pod of the new template before the last one of an old one is gone.
    async fn recreate(&self, mut rollout: Rollout, now: Timestamp) -> Result<Next> {
        let running = rollout.old.iter().filter(|set| set.replicas > 0);
        let to_nothing: Vec<_> = running.map(|set| Size { set: set.name().to_owned(), replicas: 0 }).collect();
        if !to_nothing.is_empty() {
            self.resize(&mut rollout, to_nothing).await?;
            return self.write_rollout(&rollout, now).await;
        }
        if rollout.old.iter().any(|set| self.has_pods(set)) {
            return self.write_rollout(&rollout, now).await;
        }
        if rollout.newest.is_none() {
            let Some(created) = self.create_newest(&mut rollout, now).await? else { return Ok(Next::Wait) };
            rollout.newest = Some(created);
        }
        if let Some(newest) = &rollout.newest {
            let whole = Size { set: newest.name().to_owned(), replicas: rollout.deployment.spec.replicas };
            self.resize(&mut rollout, vec![whole]).await?;
        }
        self.forget_old_when_complete(&rollout).await?;
        self.write_rollout(&rollout, now).await
    }

    /// A change of the set's status, which counts also those that are terminating, calls again.
    fn has_pods(&self, set: &Set) -> bool {
        set.status.replicas > 0 || self.pods.controlled_by(&set.object.meta.uid).iter().any(|pod| !pod.has_ended())
    }

    /// The Deployment's sets, oldest first.
    async fn claim(&self, deployment: &Deployment) -> Result<Vec<Set>> {
        let owner = Owner { kind: &DEPLOYMENT, object: &deployment.object, selector: &deployment.selector };
        let mut candidates = self.sets.objects_in(deployment.namespace());
        candidates.retain(|set| set.meta.controller().is_none_or(|owner| owner.uid == deployment.object.meta.uid));
        let owners = Collection::new(&self.client, &DEPLOYMENT, deployment.namespace());
        let (claimed, revision) = owner.claim_all(&owners, &self.collection(deployment), candidates).await?;
        self.sets.reached(revision).await;
        let newest_known = claimed.into_iter().filter_map(|set| self.sets.object(&set.key));
        let mut sets: Vec<Set> = newest_known.filter_map(readable).collect();
        sets.sort_by(|a, b| a.age().cmp(&b.age()));
        Ok(sets)
    }

    fn collection(&self, deployment: &Deployment) -> Collection {
        Collection::new(&self.client, &REPLICA_SET, deployment.namespace())
    }

    /// Gives sets their sizes, and marks them with the Deployment's.
    async fn resize(&self, rollout: &mut Rollout, sizes: Vec<Size>) -> Result<()> {
        let Rollout { deployment, newest, old, .. } = rollout;
        for Size { set: name, replicas } in sizes {
            let Some(set) = old.iter_mut().chain(newest.as_mut()).find(|set| set.name() == name) else { continue };
            let mut annotations = set.object.meta.annotations.clone();
            revision::annotate_size(deployment, &mut annotations);
            let before = set.replicas;
            if replicas == before && annotations == set.object.meta.annotations {
                continue;
            }
            let changed = change(set, |value| {
                value["spec"]["replicas"] = replicas.into();
                value["metadata"]["annotations"] = annotations.into_iter().collect();
            })?;
            *set = self.write_set(deployment, &name, &changed).await?;
            if replicas != before {
                let direction = if before < replicas { "up" } else { "down" };
                let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
                self.recorder.normal(&reference(&DEPLOYMENT, &deployment.object), "ScalingReplicaSet", &message);
            }
        }
        Ok(())
    }

    async fn write_set(&self, deployment: &Deployment, name: &str, value: &Value) -> Result<Set> {
        let written = self.collection(deployment).replace(name, value).await.step("updating a ReplicaSet")?;
        self.sets.reached(written.revision).await;
        Set::read(Arc::new(written)).map_err(|error| Error::Unreadable(error.to_string()))
    }

    async fn forget_old_when_complete(&self, rollout: &Rollout) -> Result<()> {
        if status::is_complete(&rollout.deployment, &rollout.deployment.status) {
            self.forget_old(rollout).await?;
        }
        Ok(())
    }

    async fn forget_old(&self, rollout: &Rollout) -> Result<()> {
        let sets = self.collection(&rollout.deployment);
        for set in scale::forgotten(&rollout.deployment, &rollout.old) {
            match sets.delete(set.name(), &set.object.meta.uid).await {
                Err(error) if matches!(code(&error), Some(404 | 409)) => {}
                other => other.map(|_| ()).step("deleting an old ReplicaSet")?,
            }
        }
        Ok(())
    }

    /// The status without a judgement of progress: of a Deployment that is paused or changes its size.
    async fn write_counts(&self, rollout: &Rollout, now: Timestamp) -> Result<Next> {
        let Rollout { deployment, status, newest, old } = rollout;
        let next = status::counted(deployment, status, newest.as_ref(), old, now);
        self.write(deployment, next).await?;
        Ok(Next::Wait)
    }

    async fn write_rollout(&self, rollout: &Rollout, now: Timestamp) -> Result<Next> {
        let Rollout { deployment, status, newest, old } = rollout;
        let next = status::of_rollout(deployment, status, newest.as_ref(), old, now);
        let check = status::check_in(deployment, &next, now);
        self.write(deployment, next).await?;
        Ok(check.map_or(Next::Wait, Next::After))
    }

    /// Writes status and annotations where they differ from what is stored.
    async fn write(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<()> {
        let object = &deployment.object;
        if status == deployment.status && deployment.annotations == object.meta.annotations {
            return Ok(());
        }
        let mut value = value_of(object)?;
        value["metadata"]["annotations"] = deployment.annotations.clone().into_iter().collect();
        value["status"] = serde_json::to_value(status).map_err(|error| Error::Unreadable(error.to_string()))?;
        let deployments = Collection::new(&self.client, &DEPLOYMENT, deployment.namespace());
        match deployments.replace_status(deployment.name(), &value).await {
            Ok(written) => self.deployments.reached(written.revision).await,
            Err(error) if code(&error) == Some(404) => {}
            other => other.map(|_| ()).step("updating the status")?,
        }
        Ok(())
    }
}

impl Rollout {
    /// `sets` are all of the Deployment's, oldest first: the first one of the template is the newest, whatever its age.
    fn new(deployment: Deployment, mut sets: Vec<Set>) -> Self {
        let of_template = sets.iter().position(|set| template::is_same(&set.template, &deployment.spec.template));
        let newest = of_template.map(|at| sets.remove(at));
        Self { status: deployment.status.clone(), deployment, newest, old: sets }
    }
}

fn readable(object: Arc<Object>) -> Option<Set> {
    let key = object.key.clone();
    Set::read(object).inspect_err(|error| tracing::warn!(replica_set = %key, %error, "cannot be read")).ok()
}

fn value_of(object: &Object) -> Result<Value> {
    object.value().map_err(|error| Error::Unreadable(error.to_string()))
}

/// The set as it should be stored.
fn change(set: &Set, make: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut value = value_of(&set.object)?;
    make(&mut value);
    Ok(value)
}
