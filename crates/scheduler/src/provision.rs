//! Volumes that are made for a pod once its node is known: the claims are told the node, then whoever makes volumes of
//! their class has time to.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::Shared;
use crate::pod::PodInfo;
use crate::storage::SELECTED_NODE;

/// Upstream's `bindTimeoutSeconds`.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a pod's volumes aren't there, in upstream's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("binding volumes: {0}")]
    Api(#[from] kube::Error),
    #[error("binding volumes: provisioning failed for PVC {0:?}")]
    GivenUp(String),
    #[error("binding volumes: context deadline exceeded")]
    Timeout,
}

impl Shared {
    /// Returns once all `claims` of the pod are bound.
    ///
    /// # Errors
    /// If a claim can't be written, its provisioner gives the node up, or it takes too long.
    pub async fn provision(&self, pod: &PodInfo, node: &str, claims: &[String]) -> Result<(), Error> {
        let namespace = &pod.key.namespace;
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        for name in claims {
            let patch = json!({ "metadata": { "annotations": { SELECTED_NODE: node } } });
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        let all_bound = async {
            for name in claims {
                self.bound(namespace, name, node).await?;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all_bound).await.map_err(|_| Error::Timeout)?
    }

    async fn bound(&self, namespace: &str, name: &str, node: &str) -> Result<(), Error> {
        let mut told = false;
        loop {
            let changed = self.claims.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                let claim = state.cache.others.storage.claim(namespace, name);
                if claim.is_some_and(|claim| claim.bound) {
                    return Ok(());
                }
                let selected = claim.is_some_and(|claim| claim.selected_node.as_deref() == Some(node));
                // A provisioner that can't takes the node away again.
                if told && !selected {
                    return Err(Error::GivenUp(name.into()));
                }
                told |= selected;
            }
            changed.await;
        }
    }
}
