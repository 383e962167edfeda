//! The ReplicaSet of a Deployment's template: made when there is none, kept in step with its Deployment otherwise.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::{Value, json};
use tug_api::kinds::apps::DEPLOYMENT;

use super::revision::{self, REVISION};
use super::scale;
use super::status::{self, News};
use super::template::{self, HASH_LABEL};
use super::view::{Deployment, Set};
use super::{Deployments, Rollout, change};
use crate::error::{Error, Result, Step, code, is_namespace_terminating, message};
use crate::owner::controller_reference;
use crate::resources::reference;

impl Deployments {
    /// Brings the annotations of the newest set, if there is one, and the Deployment's revision up to date.
    pub(super) async fn sync_newest(&self, rollout: &mut Rollout, now: Timestamp) -> Result<()> {
        let Rollout { deployment, status, newest: Some(newest), old } = rollout else { return Ok(()) };
        let annotations = revision::annotate_newest(deployment, &newest.object.meta.annotations, revision::next(old));
        let min_ready = deployment.spec.min_ready_seconds;
        if annotations != newest.object.meta.annotations || newest.min_ready_seconds != min_ready {
            let changed = change(newest, |value| {
                value["metadata"]["annotations"] = annotations.into_iter().collect();
                value["spec"]["minReadySeconds"] = min_ready.into();
            })?;
            *newest = self.write_set(deployment, newest.name(), &changed).await?;
        }
        if let Some(revision) = newest.annotation(REVISION) {
            deployment.annotations.insert(REVISION.into(), revision.to_owned());
        }
        status::note_news(deployment, status, &News::Found(newest.name()), now);
        Ok(())
    }

    /// Makes the set of the Deployment's template. `None` when its name was taken, by another template of the same hash:
    /// the next try has another hash.
    pub(super) async fn create_newest(&self, rollout: &mut Rollout, now: Timestamp) -> Result<Option<Set>> {
        let Rollout { deployment, status, old, .. } = rollout;
        let hash = template::hash(&deployment.spec.template, status.collision_count);
        let name = format!("{}-{hash}", deployment.name());
        let existing = old.iter().fold(0i32, |sum, set| sum.saturating_add(set.replicas));
        let replicas = scale::newest_size(deployment, existing, 0);
        let revision = revision::next(old);
        let wanted = new_set(deployment, &name, &hash, replicas, revision);
        let about = reference(&DEPLOYMENT, &deployment.object);
        match self.collection(deployment).create(wanted.to_string().into_bytes()).await {
            Ok(created) => {
                self.sets.reached(created.revision).await;
                let created = Set::read(Arc::new(created)).map_err(|error| Error::Unreadable(error.to_string()))?;
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.recorder.normal(&about, "ScalingReplicaSet", &message);
                }
                deployment.annotations.insert(REVISION.into(), revision.to_string());
                status::note_news(deployment, status, &News::Created(&name), now);
                Ok(Some(created))
            }
            Err(error) if code(&error) == Some(409) => self.find_taken(deployment, status, &name).await,
            // Nothing is made in it any more.
            Err(error) if is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let why = message(&error);
                let text = format!("Failed to create new replica set {name:?}: {why}");
                self.recorder.warning(&about, "ReplicaSetCreateError", &text);
                status::note_news(deployment, status, &News::CreateFailed { name: &name, why: &why }, now);
                self.write(deployment, status.clone()).await?;
                Err(Error::Api { step: "creating a ReplicaSet", source: error })
            }
        }
    }

    /// Who has the name: our own set, which isn't known here yet, or another one.
    async fn find_taken(&self, deployment: &Deployment, status: &DeploymentStatus, name: &str) -> Result<Option<Set>> {
        let found = self.collection(deployment).get(name).await.step("looking at a ReplicaSet")?;
        let found = Set::read(Arc::new(found)).map_err(|error| Error::Unreadable(error.to_string()))?;
        let is_ours = found.object.meta.controller().is_some_and(|owner| owner.uid == deployment.object.meta.uid);
        if is_ours && template::is_same(&found.template, &deployment.spec.template) {
            self.sets.reached(found.object.revision).await;
            return Ok(Some(found));
        }
        let collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write(deployment, DeploymentStatus { collision_count, ..status.clone() }).await?;
        Ok(None)
    }
}

fn new_set(deployment: &Deployment, name: &str, hash: &str, replicas: i32, revision: i64) -> Value {
    let mut annotations = revision::annotate_newest(deployment, &Default::default(), revision);
    revision::annotate_size(deployment, &mut annotations);
    let template = template::with_hash(&deployment.spec.template, hash);
    let mut selector = json!(deployment.spec.selector);
    if !selector["matchLabels"].is_object() {
        selector["matchLabels"] = json!({});
    }
    selector["matchLabels"][HASH_LABEL] = hash.into();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [controller_reference(&DEPLOYMENT, &deployment.object)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::deployment;
    use super::*;

    #[test]
    fn a_new_set_is_the_template_with_its_hash() {
        let deployment = deployment(&json!({
            "replicas": 4, "minReadySeconds": 5,
            "metadata": { "annotations": { "kubernetes.io/change-cause": "why" } },
        }));
        let expected = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": "d-h", "labels": { "app": "d", "pod-template-hash": "h" },
                "annotations": {
                    "kubernetes.io/change-cause": "why", "deployment.kubernetes.io/revision": "3",
                    "deployment.kubernetes.io/desired-replicas": "4", "deployment.kubernetes.io/max-replicas": "5",
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "replicas": 2, "minReadySeconds": 5,
                "selector": { "matchLabels": { "app": "d", "pod-template-hash": "h" } },
                "template": {
                    "metadata": { "labels": { "app": "d", "pod-template-hash": "h" } },
                    "spec": { "containers": [{ "name": "c" }] },
                },
            },
        });
        assert_eq!(new_set(&deployment, "d-h", "h", 2, 3), expected);
    }
}
