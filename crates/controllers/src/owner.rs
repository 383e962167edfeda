//! Which objects belong to a controller: those that name it as theirs, those without one that its selector takes. The
//! rules of upstream's `ControllerRefManager`.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use tug_api::object::Meta;
use tug_api::{Kind, Object, ObjectKey, Selector};
use tug_client::{Change, Informer};

use crate::collection::Collection;
use crate::error::{Error, Result, Step, code};

/// An object that controls others.
pub(crate) struct Owner<'a> {
    pub kind: &'static Kind,
    pub object: &'a Object,
    pub selector: &'a Selector,
}

/// What an object is to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Mine,
    /// It was the owner's, but its labels no longer match.
    Release,
    /// It has no controller, and its labels match.
    Adopt,
    Foreign,
}

impl Owner<'_> {
    pub fn claim(&self, meta: &Meta) -> Claim {
        let matches = self.selector.matches(&meta.labels);
        let deleting = self.object.meta.deletion_timestamp.is_some();
        match meta.controller() {
            Some(controller) if controller.uid != self.object.meta.uid => Claim::Foreign,
            Some(_) if matches => Claim::Mine,
            Some(_) if deleting => Claim::Foreign,
            Some(_) => Claim::Release,
            None if !matches || deleting || meta.deletion_timestamp.is_some() => Claim::Foreign,
            None => Claim::Adopt,
        }
    }

    /// Of `candidates`, all that are the owner's, after adopting and releasing. Also the revision of the last write, 0
    /// without one. `owners` and `theirs` are where the two kinds are found.
    pub async fn claim_all<T: AsRef<Object>>(
        &self,
        owners: &Collection,
        theirs: &Collection,
        candidates: Vec<T>,
    ) -> Result<(Vec<T>, u64)> {
        let (mut mine, mut revision, mut rechecked) = (Vec::new(), 0, false);
        for candidate in candidates {
            let object = candidate.as_ref();
            let written = match self.claim(&object.meta) {
                Claim::Foreign => continue,
                Claim::Mine => None,
                Claim::Release => {
                    revision = revision.max(self.release(theirs, object).await?);
                    continue;
                }
                Claim::Adopt => {
                    if !rechecked {
                        self.recheck(owners).await?;
                        rechecked = true;
                    }
                    let Some(adopted) = self.adopt(theirs, object).await? else { continue };
                    Some(adopted)
                }
            };
            revision = revision.max(written.unwrap_or(0));
            mine.push(candidate);
        }
        Ok((mine, revision))
    }

    /// An owner that was deleted a moment ago must not adopt what it would then take along.
    async fn recheck(&self, owners: &Collection) -> Result<()> {
        let fresh = owners.get(&self.object.key.name).await.step("rechecking the owner")?;
        if fresh.meta.uid != self.object.meta.uid || fresh.meta.deletion_timestamp.is_some() {
            return Err(Error::OwnerGone);
        }
        Ok(())
    }

    async fn adopt(&self, theirs: &Collection, object: &Object) -> Result<Option<u64>> {
        let patch = json!({ "metadata": { "uid": object.meta.uid, "ownerReferences": [controller_reference(self.kind, self.object)] } });
        match theirs.patch(&object.key.name, &patch).await {
            Ok(adopted) => Ok(Some(adopted.revision)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            other => other.map(|_| None).step("adopting"),
        }
    }

    async fn release(&self, theirs: &Collection, object: &Object) -> Result<u64> {
        let owner = json!({ "$patch": "delete", "uid": self.object.meta.uid });
        let patch = json!({ "metadata": { "uid": object.meta.uid, "ownerReferences": [owner] } });
        match theirs.patch(&object.key.name, &patch).await {
            Ok(released) => Ok(released.revision),
            // Gone, or another object of that name, or without the reference already.
            Err(error) if matches!(code(&error), Some(404 | 409 | 422)) => Ok(0),
            other => other.map(|_| 0).step("releasing"),
        }
    }
}

/// What the objects of a controller carry.
pub(crate) fn controller_reference(kind: &Kind, object: &Object) -> OwnerReference {
    OwnerReference {
        api_version: kind.api_version(),
        kind: kind.kind.into(),
        name: object.key.name.clone(),
        uid: object.meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owners of a kind that a change of an object concerns: those that have or had it; for an object without a
/// controller any that may want it.
pub(crate) fn to_wake(kind: &Kind, owners: &Informer<Value>, change: &Change) -> Vec<ObjectKey> {
    let api_version = kind.api_version();
    let controller = |object: &Arc<Object>| {
        let owner = object.meta.controller()?;
        let is_one = owner.kind == kind.kind && owner.api_version == api_version;
        is_one.then(|| ObjectKey::new(&object.key.namespace, &owner.name))
    };
    let mut keys: Vec<_> = [&change.old, &change.new].into_iter().flatten().filter_map(controller).collect();
    keys.dedup();
    let Some(new) = change.new.as_ref().filter(|object| object.meta.controller().is_none()) else { return keys };
    let is_orphaned = |old: &Arc<Object>| old.meta.controller().is_some() || old.meta.labels != new.meta.labels;
    if change.old.as_ref().is_none_or(is_orphaned) {
        keys.extend(owners.objects_in(&new.key.namespace).iter().map(|owner| owner.key.clone()));
    }
    keys
}

#[cfg(test)]
mod tests {
    use tug_api::kinds::apps::REPLICA_SET;

    use super::*;
    use crate::testing::object;

    /// Upstream's `ClaimObject`, and its tests `TestClaimPods`.
    #[test]
    fn labels_and_references_decide_together() {
        let selector = Selector::parse("app=a").expect("a selector");
        let deleting = json!({ "deletionTimestamp": "2030-01-01T00:00:00Z" });
        let owned_by = |uid: &str| json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true }]);
        let cases = [
            ("its own", "a", owned_by("o"), false, false, Claim::Mine),
            ("its own, being deleted", "a", owned_by("o"), false, true, Claim::Mine),
            ("its own no more", "b", owned_by("o"), false, false, Claim::Release),
            ("its own no more, but the owner goes", "b", owned_by("o"), true, false, Claim::Foreign),
            ("another's", "a", owned_by("other"), false, false, Claim::Foreign),
            ("nobody's", "a", json!([]), false, false, Claim::Adopt),
            ("nobody's, with other labels", "b", json!([]), false, false, Claim::Foreign),
            ("nobody's, but the owner goes", "a", json!([]), true, false, Claim::Foreign),
            ("nobody's, being deleted", "a", json!([]), false, true, Claim::Foreign),
        ];
        for (case, label, references, owner_goes, goes, expected) in cases {
            let with = |mut metadata: Value, goes: bool| {
                if goes {
                    metadata["deletionTimestamp"] = deleting["deletionTimestamp"].clone();
                }
                json!({ "metadata": metadata })
            };
            let owner = object("o", &with(json!({}), owner_goes));
            let candidate =
                object("p", &with(json!({ "labels": { "app": label }, "ownerReferences": references }), goes));
            let owner = Owner { kind: &REPLICA_SET, object: &owner, selector: &selector };
            assert_eq!(owner.claim(&candidate.meta), expected, "{case}");
        }
    }
}
