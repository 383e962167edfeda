//! Which objects belong to a controller: those that name it as theirs, those without one that its selector takes. The
//! rules of upstream's `ControllerRefManager`.

use serde_json::{Value, json};
use tug_api::object::Meta;
use tug_api::{Kind, Object, Selector};

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

    /// What its objects carry.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.kind,
            "name": self.object.key.name,
            "uid": self.object.meta.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        })
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
        let patch = json!({ "metadata": { "uid": object.meta.uid, "ownerReferences": [self.reference()] } });
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
