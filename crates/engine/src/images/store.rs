//! What is on disk and in the catalog, from whichever thread: layers are unpacked, images recorded and found, and what
//! no image needs is dropped.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::engine::{Error, Result};
use crate::images::catalog::{Catalog, Layer, Record, retag};
use crate::images::reference::{Reference, is_digest, is_hex};
use crate::images::registry::Routes;
use crate::images::{ImageEvent, blocking, disk_failed, failed, unpack};
use crate::usage::file_bytes;

/// What pulls and loads work on.
pub struct Shared {
    pub data_dir: PathBuf,
    pub routes: Routes,
    pub catalog: Mutex<Catalog>,
    pub blob_locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Containers and the images that they were made from: those stay.
    pub held: Mutex<HashMap<String, String>>,
    pub events: broadcast::Sender<ImageEvent>,
}

/// Digests that a transfer works with: until it ends, no removal of an image takes their files away.
pub struct Claim {
    shared: Arc<Shared>,
    digests: Vec<String>,
}

impl Claim {
    pub fn add(&mut self, digest: &str) {
        *self.shared.catalog.lock().pins.entry(digest.to_owned()).or_default() += 1;
        self.digests.push(digest.to_owned());
    }

    /// The layer with this diff id if some image has it: whatever form it comes in this time, there is one already.
    pub fn layer(&mut self, diff_id: &str) -> Option<Layer> {
        self.add(diff_id);
        let known = {
            let mut catalog = self.shared.catalog.lock();
            let known = catalog.layer(diff_id)?.clone();
            *catalog.pins.entry(known.blob.clone()).or_default() += 1;
            known
        };
        self.digests.push(known.blob.clone());
        let whole = [self.shared.layer(diff_id), self.shared.blob(&known.blob)];
        whole.iter().all(|path| path.as_ref().is_ok_and(|path| path.exists())).then_some(known)
    }

    /// Drops what was brought in and no image has: nothing came of it. Blocks.
    pub fn abandon(mut self) {
        let digests = std::mem::take(&mut self.digests);
        let gone = {
            let mut catalog = self.shared.catalog.lock();
            unpin(&mut catalog, &digests);
            self.shared.set_aside(&catalog, digests.iter().map(String::as_str))
        };
        gone.iter().for_each(|path| discard(path));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        unpin(&mut self.shared.catalog.lock(), &self.digests);
    }
}

fn unpin(catalog: &mut Catalog, digests: &[String]) {
    for digest in digests {
        let left = catalog.pins.get_mut(digest).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            catalog.pins.remove(digest);
        }
    }
}

impl Shared {
    pub fn claim(self: &Arc<Self>) -> Claim {
        Claim { shared: self.clone(), digests: Vec::new() }
    }

    pub fn scratch(&self) -> PathBuf {
        self.data_dir.join("tmp")
    }

    /// # Errors
    /// When `digest` isn't one: it becomes a path.
    pub fn blob(&self, digest: &str) -> Result<PathBuf> {
        self.by_digest("blobs/sha256", digest)
    }

    pub fn layer(&self, diff_id: &str) -> Result<PathBuf> {
        self.by_digest("layers", diff_id)
    }

    fn by_digest(&self, directory: &str, digest: &str) -> Result<PathBuf> {
        if !is_digest(digest) {
            return Err(Error::Invalid(format!("invalid digest {digest:?}: only sha256 is supported")));
        }
        Ok(self.data_dir.join(directory).join(&digest["sha256:".len()..]))
    }

    pub fn configuration(&self, id: &str) -> Result<ImageConfiguration> {
        ImageConfiguration::from_file(self.blob(id)?).map_err(|error| failed("reading an image's configuration")(error))
    }

    pub fn blob_lock(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.blob_locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(digest.into(), Arc::downgrade(&lock));
        lock
    }

    /// As [`Shared::unpack_blocking`], and never twice at once.
    pub async fn unpack_layer(self: &Arc<Self>, layer: Layer) -> Result<Layer> {
        let lock = self.blob_lock(&layer.diff_id);
        let _alone = lock.lock().await;
        let shared = self.clone();
        blocking(move || shared.unpack_blocking(layer)).await
    }

    /// Unpacks a layer's blob unless that is done, and says how large it is.
    pub fn unpack_blocking(&self, layer: Layer) -> Result<Layer> {
        let target = self.layer(&layer.diff_id)?;
        if !target.exists() {
            let (directory, actual) = self.unpack_blob(&self.blob(&layer.blob)?)?;
            if actual != layer.diff_id {
                return Err(failed("verifying a layer")(format!("its diff id is {actual}, not {}", layer.diff_id)));
            }
            place(directory, &target)?;
        }
        let unpacked_bytes = file_bytes(&target).map_err(disk_failed("unpacking a layer"))?;
        Ok(Layer { unpacked_bytes, ..layer })
    }

    /// A layer from a blob of which nothing else is known. Blocks.
    pub fn unpack_new(&self, claim: &mut Claim, blob: &str) -> Result<Layer> {
        let path = self.blob(blob)?;
        let bytes = fs::metadata(&path).map_err(disk_failed("reading a layer"))?.len();
        let (directory, diff_id) = self.unpack_blob(&path)?;
        if let Some(known) = claim.layer(&diff_id) {
            return Ok(known);
        }
        place(directory, &self.layer(&diff_id)?)?;
        self.unpack_blocking(Layer { blob: blob.to_owned(), diff_id, bytes, unpacked_bytes: 0, packed: None })
    }

    /// Into a directory of its own first: a half unpacked layer never bears a layer's name. That directory, and the diff
    /// id.
    fn unpack_blob(&self, blob: &Path) -> Result<(tempfile::TempDir, String)> {
        let unpack = || -> io::Result<_> {
            let directory = tempfile::TempDir::new_in(self.scratch())?;
            let root = directory.path().join("layer");
            fs::create_dir(&root)?;
            fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let actual = unpack::unpack(File::open(blob)?, &root)?;
            Ok((directory, actual))
        };
        unpack().map_err(disk_failed("unpacking a layer"))
    }

    /// Makes an image known once all that it consists of is on disk. For each of its tags the image that had it.
    pub async fn record(self: &Arc<Self>, record: Record) -> Result<HashMap<String, Option<String>>> {
        let shared = self.clone();
        blocking(move || {
            let commit = || {
                rustix::fs::syncfs(File::open(&shared.data_dir)?)?;
                shared.catalog.lock().change(|records| {
                    let (id, mut record) = (record.id.clone(), record);
                    settle_digests(records, &mut record);
                    let tags = std::mem::take(&mut record.tags);
                    match records.get_mut(&id) {
                        Some(known) => {
                            known.digests.extend(record.digests);
                            known.local = record.local;
                            known.parent = record.parent.or(known.parent.take());
                            known.removed = false;
                        }
                        None => {
                            records.insert(id.clone(), record);
                        }
                    }
                    let retagged = tags.into_iter().map(|tag| {
                        let before = retag(records, &tag, &id);
                        (tag, before)
                    });
                    retagged.collect()
                })
            };
            commit().map_err(disk_failed("recording an image"))
        })
        .await
    }

    /// # Errors
    /// In Docker's words: that there is no such image, or that the text can't name one.
    pub fn find(&self, text: &str) -> Result<Record> {
        let catalog = self.catalog.lock();
        find(&catalog, text).cloned()
    }

    /// Puts the files of those digests that nobody needs where the caller, or the next start, deletes them. Quick, since
    /// it is done under the catalog's lock.
    pub fn set_aside<'a>(&self, catalog: &Catalog, digests: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
        let (blobs, layers) = catalog.used();
        let mut gone = Vec::new();
        for digest in digests {
            let places = [(self.blob(digest), blobs.contains(digest)), (self.layer(digest), layers.contains(digest))];
            for (path, used) in places {
                let Some(path) = path.ok().filter(|path| !used && path.exists()) else { continue };
                let aside = self.scratch().join(format!("gone-{}", uuid::Uuid::new_v4()));
                gone.push(if fs::rename(&path, &aside).is_ok() { aside } else { path });
            }
        }
        gone
    }

    /// At start: layers without an image may be incomplete, since only a recorded image's were synced. Blobs without one
    /// go too, but parts of blobs stay: their pull is resumed.
    pub fn drop_leftovers(&self) -> io::Result<()> {
        let catalog = self.catalog.lock();
        let (blobs, layers) = catalog.used();
        for (directory, used) in [("layers", &layers), ("blobs/sha256", &blobs)] {
            for entry in fs::read_dir(self.data_dir.join(directory))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.ends_with(".partial") && !used.contains(format!("sha256:{name}").as_str()) {
                    discard(&entry.path());
                }
            }
        }
        for entry in fs::read_dir(self.scratch())? {
            discard(&entry?.path());
        }
        Ok(())
    }

    /// Tells those who listen. `image` is the image that it is about, whose labels are told too; `id` is what Docker
    /// says in its place for some actions.
    pub fn tell(&self, action: &'static str, image: &str, id: &str, name: &str) {
        let config = self.configuration(image).ok();
        let labels = config.and_then(|config| config.config().as_ref()?.labels().clone()).unwrap_or_default();
        let event = ImageEvent { action, id: id.to_owned(), name: name.to_owned(), labels };
        // Fails only when nobody listens.
        let _ = self.events.send(event);
    }
}

/// A digest names one image: the one pulled by it, or else the first. An index has images for several platforms.
fn settle_digests(records: &mut BTreeMap<String, Record>, record: &mut Record) {
    for other in records.values_mut().filter(|other| other.id != record.id) {
        if record.tags.is_empty() {
            other.digests.retain(|digest| !record.digests.contains(digest));
        } else {
            record.digests.retain(|digest| !other.digests.contains(digest));
        }
    }
}

/// Puts an unpacked layer in place.
fn place(directory: tempfile::TempDir, target: &Path) -> Result<()> {
    match fs::rename(directory.path().join("layer"), target) {
        // Another image's load was faster.
        Err(_) if target.exists() => Ok(()),
        other => other.map_err(disk_failed("unpacking a layer")),
    }
}

/// By name first, then by id or the beginning of one, as Docker looks.
pub fn find<'a>(catalog: &'a Catalog, text: &str) -> Result<&'a Record> {
    let seen = || catalog.records.values().filter(|record| !record.removed);
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() == 64 && is_hex(hex) {
        let id = format!("sha256:{hex}");
        let record = catalog.records.get(&id).filter(|record| !record.removed);
        return record.ok_or_else(|| no_such_image(&id));
    }
    let reference = Reference::parse(text)?;
    let name = match &reference.digest {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.tagged().unwrap_or_default(),
    };
    if let Some(record) = seen().find(|record| record.digests.contains(&name) || record.tags.contains(&name)) {
        return Ok(record);
    }
    let mut fitting = seen().filter(|record| is_hex(hex) && record.id["sha256:".len()..].starts_with(hex));
    match (fitting.next(), fitting.next()) {
        (Some(record), None) => Ok(record),
        _ => Err(no_such_image(&reference.familiar())),
    }
}

/// Removes a file or a tree; what can't be removed is dropped at the next start.
pub fn discard(path: &Path) {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "can't remove");
        }
        _ => {}
    }
}

pub fn no_such_image(reference: &str) -> Error {
    Error::NotFound(format!("No such image: {reference}"))
}
