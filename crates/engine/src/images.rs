//! Images: pulled, loaded, listed, resolved, removed. Content is stored once, by digest, and verified before use.
//!
//! `blobs/sha256/<hex>` are manifests' parts as they came; `layers/<hex>` are layers unpacked, named by their diff id
//! and shared by all images that have them; `images.json` says which images there are. An image is recorded once all of it
//! is synced, and what no image names goes when the store is opened: a power cut leaves nothing wrong under a name.

mod catalog;
mod distribution;
mod load;
mod pull;
pub mod reference;
mod registry;
mod trust;
mod unpack;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;

use crate::engine::{Error, Result};
use crate::spec::{Auth, Config};
pub(crate) use pull::digest_of;

use catalog::{Catalog, Layer, Record};
use reference::{Reference, is_digest, is_hex};
use registry::Routes;

/// Where a pull has got to.
#[derive(Clone, Debug)]
pub enum PullProgress {
    /// Bytes of one layer fetched so far, of so many.
    Layer {
        digest: String,
        current: u64,
        total: u64,
    },
    Extracting {
        digest: String,
    },
    Done {
        digest: String,
    },
}

/// One image of this node.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the configuration, as docker names images.
    pub id: String,
    /// Normalized: `docker.io/library/nginx:latest`.
    pub tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    pub size_bytes: u64,
    pub created: SystemTime,
    /// Its last origin is this machine (load, import, commit), not a registry.
    pub local: bool,
    pub config: ImageConfiguration,
}

/// The image store.
pub struct Images {
    shared: Arc<Shared>,
    /// Where registries are dialed from; the caller's runtime when `None`.
    dial: Option<tokio::runtime::Handle>,
}

/// What pulls and loads work on, from whichever thread.
pub(crate) struct Shared {
    data_dir: PathBuf,
    routes: Routes,
    catalog: Mutex<Catalog>,
    blob_locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Containers and the images that they were made from: those stay.
    held: Mutex<HashMap<String, String>>,
}

impl Images {
    /// Opens the store below `config.data_dir` and drops layers that a crash left without an image. Blocks.
    pub fn open(config: &Config) -> Result<Self> {
        let open = || -> io::Result<Shared> {
            for directory in ["blobs/sha256", "layers", "tmp"] {
                fs::create_dir_all(config.data_dir.join(directory))?;
            }
            let catalog = Catalog::open(&config.data_dir)?;
            let shared = Shared {
                data_dir: config.data_dir.clone(),
                routes: Routes { mirrors: config.mirrors.clone(), names: config.names.clone() },
                catalog: Mutex::new(catalog),
                blob_locks: Mutex::default(),
                held: Mutex::default(),
            };
            shared.drop_leftovers()?;
            Ok(shared)
        };
        let shared = open().map_err(|error| failed("opening the image store")(error))?;
        Ok(Self { shared: Arc::new(shared), dial: config.dial.clone() })
    }

    /// Accepts all that docker accepts: `nginx`, `nginx:1.25`, `host:5000/a/b@sha256:…`, an id or its unique prefix.
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        let record = self.shared.find(reference)?;
        self.image(record)
    }

    pub fn list(&self) -> Vec<Image> {
        let records: Vec<_> = self.shared.catalog.lock().records.values().cloned().collect();
        records.into_iter().filter_map(|record| self.image(record)).collect()
    }

    fn image(&self, record: Record) -> Option<Image> {
        let config = self
            .shared
            .configuration(&record.id)
            .inspect_err(|error| tracing::error!(image = record.id, %error, "an image's configuration is unreadable"))
            .ok()?;
        Some(Image {
            size_bytes: record.layers.iter().map(|layer| layer.bytes).sum(),
            id: record.id,
            tags: record.tags.into_iter().collect(),
            digests: record.digests.into_iter().collect(),
            created: record.created,
            local: record.local,
            config,
        })
    }

    /// The unpacked layers of an image, top first, as overlayfs' `lowerdir` wants them.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn layers(&self, id: &str) -> Result<Vec<PathBuf>> {
        let catalog = self.shared.catalog.lock();
        let record = catalog.records.get(id).ok_or_else(|| no_such_image(id))?;
        record.layers.iter().rev().map(|layer| self.shared.layer(&layer.diff_id)).collect()
    }

    /// Says that `container` needs the image `id`, which can't be removed until [`Images::release`].
    pub fn hold(&self, container: &str, id: &str) {
        self.shared.held.lock().insert(container.into(), id.into());
    }

    pub fn release(&self, container: &str) {
        self.shared.held.lock().remove(container);
    }

    /// Fetches what is missing, mirrors first. `progress` is called from the pulling task and must not block. A caller that goes away doesn't stop the transfer.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Auth,
        progress: impl Fn(PullProgress) + Send + Sync + 'static,
    ) -> Result<Image> {
        let reference = Reference::parse(reference)?;
        let work = pull::pull(self.shared.clone(), reference, auth, Arc::new(progress));
        let runtime = self.dial.clone().unwrap_or_else(tokio::runtime::Handle::current);
        let id = runtime.spawn(work).await.map_err(|error| failed("pulling")(error))??;
        self.resolve(&id).ok_or_else(|| no_such_image(&id))
    }

    /// Reads a `docker save` or OCI archive, plain or compressed; returns the names that were loaded.
    pub async fn load(&self, archive: &Path) -> Result<Vec<String>> {
        let (shared, path) = (self.shared.clone(), archive.to_owned());
        let (records, names) = blocking(move || load::load(&shared, &path)).await?;
        for record in records {
            self.shared.record(record).await?;
        }
        Ok(names)
    }

    /// A file in the data directory, for archives on their way in.
    ///
    /// # Errors
    /// As making a file has them.
    pub fn scratch_file(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(self.shared.scratch())
    }

    /// Takes a name away; with an image's last name, or by id, the image and what only it needed.
    ///
    /// # Errors
    /// `Conflict` while a container uses the image and this is its last name.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let (shared, reference) = (self.shared.clone(), reference.to_owned());
        blocking(move || shared.remove(&reference)).await
    }
}

impl Shared {
    fn scratch(&self) -> PathBuf {
        self.data_dir.join("tmp")
    }

    /// # Errors
    /// When `digest` isn't one: it becomes a path.
    fn blob(&self, digest: &str) -> Result<PathBuf> {
        self.by_digest("blobs/sha256", digest)
    }

    fn layer(&self, diff_id: &str) -> Result<PathBuf> {
        self.by_digest("layers", diff_id)
    }

    fn by_digest(&self, directory: &str, digest: &str) -> Result<PathBuf> {
        if !is_digest(digest) {
            return Err(Error::Invalid(format!("invalid digest {digest:?}: only sha256 is supported")));
        }
        Ok(self.data_dir.join(directory).join(&digest["sha256:".len()..]))
    }

    fn has_layer(&self, diff_id: &str) -> bool {
        self.layer(diff_id).is_ok_and(|path| path.exists())
    }

    fn configuration(&self, id: &str) -> Result<ImageConfiguration> {
        ImageConfiguration::from_file(self.blob(id)?).map_err(|error| failed("reading an image's configuration")(error))
    }

    fn blob_lock(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.blob_locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(digest.into(), Arc::downgrade(&lock));
        lock
    }

    async fn unpack_layer(self: &Arc<Self>, layer: Layer) -> Result<()> {
        let lock = self.blob_lock(&layer.diff_id);
        let _alone = lock.lock().await;
        let shared = self.clone();
        blocking(move || shared.unpack_blocking(&layer)).await
    }

    /// Into a directory of its own first: a half unpacked layer never bears a layer's name.
    fn unpack_blocking(&self, layer: &Layer) -> Result<()> {
        let target = self.layer(&layer.diff_id)?;
        if target.exists() {
            return Ok(());
        }
        let blob = self.blob(&layer.blob)?;
        let unpack = || -> io::Result<String> {
            let directory = tempfile::TempDir::new_in(self.scratch())?;
            let root = directory.path().join("layer");
            fs::create_dir(&root)?;
            fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let actual = unpack::unpack(File::open(&blob)?, &root)?;
            if actual == layer.diff_id {
                match fs::rename(&root, &target) {
                    // Another image's load was faster.
                    Err(_) if target.exists() => {}
                    other => other?,
                }
            }
            Ok(actual)
        };
        let actual = unpack().map_err(|error| failed("unpacking a layer")(error))?;
        if actual != layer.diff_id {
            return Err(failed("verifying a layer")(format!("its diff id is {actual}, not {}", layer.diff_id)));
        }
        Ok(())
    }

    /// Makes an image known once all that it consists of is on disk.
    async fn record(self: &Arc<Self>, record: Record) -> Result<()> {
        let shared = self.clone();
        blocking(move || {
            let commit = || -> io::Result<()> {
                rustix::fs::syncfs(File::open(&shared.data_dir)?)?;
                let mut catalog = shared.catalog.lock();
                let (tags, id) = (record.tags.clone(), record.id.clone());
                match catalog.records.get_mut(&id) {
                    Some(known) => {
                        known.digests.extend(record.digests);
                        known.local = record.local;
                    }
                    None => {
                        catalog.records.insert(id.clone(), record);
                    }
                }
                for tag in tags {
                    catalog.retag(&tag, &id);
                }
                catalog.save()
            };
            commit().map_err(|error| failed("recording an image")(error))
        })
        .await
    }

    fn find(&self, text: &str) -> Option<Record> {
        let catalog = self.catalog.lock();
        if let Some(record) = catalog.records.get(text) {
            return Some(record.clone());
        }
        if let Ok(reference) = Reference::parse(text) {
            let digest = reference.digest.as_ref().map(|digest| format!("{}@{digest}", reference.name()));
            let tagged = reference.tagged();
            let named = |record: &&Record| match (&digest, &tagged) {
                (Some(digest), _) => record.digests.contains(digest),
                (None, Some(tag)) => record.tags.contains(tag),
                (None, None) => false,
            };
            if let Some(record) = catalog.records.values().find(named) {
                return Some(record.clone());
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || !is_hex(hex) {
            return None;
        }
        let mut fitting = catalog.records.values().filter(|r| r.id["sha256:".len()..].starts_with(hex));
        match (fitting.next(), fitting.next()) {
            (Some(record), None) => Some(record.clone()),
            _ => None,
        }
    }

    fn remove(&self, reference: &str) -> Result<()> {
        let found = self.find(reference).ok_or_else(|| no_such_image(reference))?;
        let mut catalog = self.catalog.lock();
        let record = catalog.records.get_mut(&found.id).ok_or_else(|| no_such_image(reference))?;
        let tag = Reference::parse(reference).ok().and_then(|r| r.tagged()).filter(|tag| record.tags.contains(tag));
        if let Some(tag) = tag.filter(|_| record.tags.len() > 1) {
            record.tags.remove(&tag);
            return catalog.save().map_err(|error| failed("removing an image's name")(error));
        }
        if let Some((container, _)) = self.held.lock().iter().find(|(_, id)| **id == found.id) {
            let short: String = container.chars().take(12).collect();
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {reference:?} (must force) - container {short} is using its \
                 referenced image {}",
                &found.id["sha256:".len()..][..12]
            )));
        }
        catalog.records.remove(&found.id);
        // First forgotten, then deleted: a crash between leaves files without an image, which the next start drops.
        catalog.save().map_err(|error| failed("removing an image")(error))?;
        let (blobs, layers) = catalog.used();
        for layer in &found.layers {
            if !layers.contains(layer.diff_id.as_str()) {
                discard(&self.layer(&layer.diff_id)?);
            }
            if !blobs.contains(layer.blob.as_str()) {
                discard(&self.blob(&layer.blob)?);
            }
        }
        if !blobs.contains(found.id.as_str()) {
            discard(&self.blob(&found.id)?);
        }
        Ok(())
    }

    /// At start: layers without an image may be incomplete, since only a recorded image's were synced. Blobs without one
    /// go too, but parts of blobs stay: their pull is resumed.
    fn drop_leftovers(&self) -> io::Result<()> {
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
}

/// Removes a file or a tree; what can't be removed is dropped at the next start.
fn discard(path: &Path) {
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

fn no_such_image(reference: &str) -> Error {
    Error::NotFound(format!("No such image: {reference}"))
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Failed { step, message: error.to_string() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed("working")(error))?
}
