//! Takes names and images away by Docker's rules (moby, `daemon/images/image_delete.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{Engine, Error, Result};
use crate::images::catalog::{Catalog, Record};
use crate::images::reference::Reference;
use crate::images::store::{Shared, discard, find};
use crate::images::{Images, blocking, disk_failed};
use crate::spec::State;

/// How an image is removed.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// Though it has several names, or containers that don't run.
    pub force: bool,
    /// Leaves images without a name that this one was made from.
    pub keep_parents: bool,
    /// Containers that run: what they were made from stays even by force.
    pub running: BTreeSet<String>,
}

/// What a removal did, in the order in which Docker tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Normalized, a tag or a digest.
    Untagged(String),
    Image(String),
    Layer {
        chain_id: String,
        bytes: u64,
    },
}

impl Engine {
    /// [`Images::remove`] with an eye on this engine's containers.
    ///
    /// # Errors
    /// As [`Images::remove`].
    pub async fn remove_image(&self, reference: &str, removal: Removal) -> Result<Vec<Removed>> {
        let runs = |state| matches!(state, State::Running | State::Paused);
        let running = self.containers().into_iter().filter(|status| runs(status.state)).map(|status| status.id);
        self.images.remove(reference, Removal { running: running.collect(), ..removal }).await
    }
}

impl Images {
    /// Takes a name away; with an image's last name, or by id, the image and what only it needed.
    ///
    /// # Errors
    /// `Conflict` in Docker's words while containers or other images need it.
    pub async fn remove(&self, reference: &str, removal: Removal) -> Result<Vec<Removed>> {
        let (shared, reference) = (self.shared.clone(), reference.to_owned());
        blocking(move || shared.remove(&reference, &removal)).await
    }

    /// The container that needed an image is gone. An image that was removed meanwhile goes now.
    pub fn release(&self, container: &str) {
        let held = self.shared.held.lock().remove(container);
        let is_removed = |id: String| self.shared.catalog.lock().records.get(&id).is_some_and(|record| record.removed);
        if held.is_some_and(is_removed) {
            let shared = self.shared.clone();
            // As long as that takes; the next start does what this one doesn't come to.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = shared.drop_unheld() {
                    tracing::warn!(%error, "an image that no container needs any more stays until the next start");
                }
            });
        }
    }

    /// Drops images that were removed while containers held them, and are held no more. Blocks.
    ///
    /// # Errors
    /// When that can't be written down: they stay until the next start.
    pub(crate) fn drop_unheld(&self) -> Result<()> {
        self.shared.drop_unheld()
    }
}

/// A removal under way, on records that are written down when it is done.
struct Work<'a> {
    catalog: &'a mut Catalog,
    held: Vec<(String, String)>,
    removal: &'a Removal,
    removed: Vec<Removed>,
    /// Action and image.
    events: Vec<(&'static str, String)>,
    forgotten: Vec<Record>,
}

impl Shared {
    fn remove(self: &Arc<Self>, reference: &str, removal: &Removal) -> Result<Vec<Removed>> {
        let (removed, deletions, gone) = {
            let mut catalog = self.catalog.lock();
            let id = find(&catalog, reference)?.id.clone();
            let before = catalog.records.clone();
            let held = self.held.lock().iter().map(|(container, id)| (container.clone(), id.clone())).collect();
            let (removed, events, forgotten) = (Vec::new(), Vec::new(), Vec::new());
            let mut work = Work { catalog: &mut catalog, held, removal, removed, events, forgotten };
            let done = work.remove(&id, reference);
            let Work { removed, events, forgotten, .. } = work;
            // First forgotten, then deleted: a crash between leaves files without an image, which the next start drops.
            let saved = done.and_then(|()| catalog.save().map_err(disk_failed("removing an image")));
            if let Err(error) = saved {
                catalog.records = before;
                return Err(error);
            }
            // While the labels can be read, which the event of a deletion doesn't have.
            let (deletions, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|(action, _)| *action == "delete");
            others.iter().for_each(|(action, id)| self.tell(action, id, id, id));
            let gone = forgotten.iter().flat_map(|record| self.set_record_aside(&catalog, record)).collect::<Vec<_>>();
            (removed, deletions, gone)
        };
        deletions.iter().for_each(|(action, id)| self.tell(action, id, id, id));
        gone.iter().for_each(|path| discard(path));
        Ok(removed)
    }

    fn set_record_aside(&self, catalog: &Catalog, record: &Record) -> Vec<PathBuf> {
        let parts = record.layers.iter().flat_map(|layer| [layer.diff_id.as_str(), layer.blob.as_str()]);
        self.set_aside(catalog, parts.chain([record.id.as_str()]))
    }

    fn drop_unheld(&self) -> Result<()> {
        let gone: Vec<PathBuf> = {
            let mut catalog = self.catalog.lock();
            let held: BTreeSet<String> = self.held.lock().values().cloned().collect();
            let unheld = |record: &&Record| record.removed && !held.contains(&record.id);
            let unheld: Vec<Record> = catalog.records.values().filter(unheld).cloned().collect();
            if unheld.is_empty() {
                return Ok(());
            }
            let forget = |records: &mut BTreeMap<String, Record>| {
                records.retain(|id, _| !unheld.iter().any(|record| record.id == *id));
            };
            catalog.change(forget).map_err(disk_failed("removing an image"))?;
            unheld.iter().flat_map(|record| self.set_record_aside(&catalog, record)).collect()
        };
        gone.iter().for_each(|path| discard(path));
        Ok(())
    }
}

impl Work<'_> {
    fn remove(&mut self, id: &str, reference: &str) -> Result<()> {
        let references = self.record(id)?.references();
        let by_id = id.starts_with(reference) || id["sha256:".len()..].starts_with(reference);
        if by_id {
            if is_single(&references) {
                let soft = || self.stopped(id).filter(|_| !self.removal.force);
                if let Some(conflict) = self.hard_conflict(id).or_else(soft) {
                    return Err(conflict);
                }
                for reference in references {
                    self.untag(id, &reference, true);
                }
            }
            return self.delete(id, self.removal.force, false);
        }
        if !self.removal.force
            && is_single(&references)
            && let Some(container) = self.container(id, |_| true)
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {reference:?} (must force) - container {} is using its \
                 referenced image {}",
                short(&container),
                short(id)
            )));
        }
        let parsed = Reference::parse(reference)?;
        let name = parsed.name();
        let of_repository =
            |reference: &String| reference.strip_prefix(&name).is_some_and(|rest| rest.starts_with('@'));
        match &parsed.digest {
            Some(digest) => self.untag(id, &format!("{name}@{digest}"), true),
            None => {
                self.untag(id, &parsed.to_string(), true);
                let tag_of_it = |tag: &String| tag.rsplit_once(':').is_some_and(|(repository, _)| repository == name);
                let record = self.record(id)?;
                if !record.tags.iter().any(tag_of_it) {
                    let digests: Vec<String> = record.digests.iter().filter(|d| of_repository(d)).cloned().collect();
                    for digest in digests {
                        self.untag(id, &digest, false);
                    }
                }
            }
        }
        if self.record(id)?.references().is_empty() { self.delete(id, self.removal.force, true) } else { Ok(()) }
    }

    fn record(&mut self, id: &str) -> Result<&mut Record> {
        self.catalog.records.get_mut(id).ok_or_else(|| crate::images::store::no_such_image(id))
    }

    fn untag(&mut self, id: &str, reference: &str, with_event: bool) {
        if let Ok(record) = self.record(id) {
            record.tags.remove(reference);
            record.digests.remove(reference);
        }
        self.removed.push(Removed::Untagged(reference.to_owned()));
        if with_event {
            self.events.push(("untag", id.to_owned()));
        }
    }

    /// Deletes an image unless something speaks against it, and then its parents in the same way, as far as nobody else
    /// needs them. `quiet`: its last name was taken away, and the image may well stay if it is needed.
    fn delete(&mut self, id: &str, force: bool, quiet: bool) -> Result<()> {
        if let Some(conflict) = self.conflict(id, force) {
            return if quiet { Ok(()) } else { Err(conflict) };
        }
        let record = self.record(id)?.clone();
        for reference in record.references() {
            self.untag(id, &reference, true);
        }
        self.removed.push(Removed::Image(id.to_owned()));
        self.events.push(("delete", id.to_owned()));
        if self.container(id, |_| true).is_some() {
            self.record(id)?.removed = true;
        } else {
            self.catalog.records.remove(id);
            let others: BTreeSet<String> = self.catalog.records.values().flat_map(Record::chain_ids).collect();
            let chain = record.chain_ids().into_iter().zip(&record.layers).rev();
            for (chain_id, layer) in chain.filter(|(chain_id, _)| !others.contains(chain_id)) {
                self.removed.push(Removed::Layer { chain_id, bytes: layer.unpacked_bytes });
            }
            self.forgotten.push(record.clone());
        }
        match record.parent {
            Some(parent) if !self.removal.keep_parents && self.catalog.records.contains_key(&parent) => {
                self.delete(&parent, false, true)
            }
            _ => Ok(()),
        }
    }

    /// What speaks against deleting an image.
    fn conflict(&self, id: &str, force: bool) -> Option<Error> {
        let named = self.catalog.records.get(id).is_some_and(|record| !record.references().is_empty());
        let named = (named && !force).then(|| conflict(id, false, "image is referenced in multiple repositories"));
        self.hard_conflict(id).or(named).or_else(|| self.stopped(id).filter(|_| !force))
    }

    fn hard_conflict(&self, id: &str) -> Option<Error> {
        if self.catalog.records.values().any(|child| !child.removed && child.parent.as_deref() == Some(id)) {
            return Some(conflict(id, true, "image has dependent child images"));
        }
        self.running(id)
    }

    fn running(&self, id: &str) -> Option<Error> {
        let container = self.container(id, |container| self.removal.running.contains(container))?;
        Some(conflict(id, true, &format!("image is being used by running container {}", short(&container))))
    }

    fn stopped(&self, id: &str) -> Option<Error> {
        let container = self.container(id, |container| !self.removal.running.contains(container))?;
        Some(conflict(id, false, &format!("image is being used by stopped container {}", short(&container))))
    }

    fn container(&self, id: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.held
            .iter()
            .find(|(container, image)| image == id && fits(container))
            .map(|(container, _)| container.clone())
    }
}

fn conflict(id: &str, hard: bool, why: &str) -> Error {
    let force = if hard { "cannot be forced" } else { "must be forced" };
    Error::Conflict(format!("conflict: unable to delete {} ({force}) - {why}", short(id)))
}

/// All of one repository, and at most one tag among them.
fn is_single(references: &[String]) -> bool {
    let tags = references.iter().filter(|reference| !reference.contains('@'));
    let repositories: BTreeSet<&str> = references
        .iter()
        .filter_map(|reference| reference.split_once('@').or_else(|| reference.rsplit_once(':')))
        .map(|(repository, _)| repository)
        .collect();
    repositories.len() == 1 && tags.count() <= 1
}

/// An id as Docker shows it.
fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_with_one_tag_is_single() {
        // moby, `isSingleReference`.
        let cases: [(&[&str], bool); 7] = [
            (&[], false),
            (&["h:5/a:1"], true),
            (&["h:5/a:1", "h:5/a:2"], false),
            (&["h:5/a:1", "h:5/a@sha256:0"], true),
            (&["h:5/a@sha256:0", "h:5/a@sha256:1"], true),
            (&["h:5/a:1", "h:5/b@sha256:0"], false),
            (&["h:5/a@sha256:0", "h:5/b@sha256:0"], false),
        ];
        for (references, expected) in cases {
            let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(is_single(&references), expected, "{references:?}");
        }
    }
}
