//! Images: pulled, loaded, listed, resolved, removed. Content is stored once, by digest, and verified before use.
//!
//! `blobs/sha256/<hex>` are manifests' parts as they came; `layers/<hex>` are layers unpacked, named by their diff id
//! and shared by all images that have them; `images.json` says which images there are. An image is recorded once all of it
//! is synced, and what no image names goes when the store is opened: a power cut leaves nothing wrong under a name.

mod catalog;
mod commit;
mod distribution;
mod inquire;
mod load;
mod platform;
mod pull;
mod push;
pub mod reference;
mod registry;
mod remove;
mod save;
mod store;
mod trust;
mod unpack;
mod upload;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Error, Result};
use crate::spec::{Auth, Config};
pub use catalog::Layer;
pub use commit::Commit;
pub use inquire::{Download, LoginError, RemoteManifest};
pub use load::Loaded;
pub use platform::Platform;
pub(crate) use pull::digest_of;
pub use pull::{PullOptions, PullProgress};
pub use push::PushProgress;
pub use remove::{Removal, Removed};

use catalog::{Catalog, Record};
use reference::Reference;
use registry::Routes;
use store::{Shared, no_such_image};

/// Events kept for a receiver that is slow; past it the receiver is told that it lagged.
const EVENTS: usize = 1024;

/// One image of this node.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the configuration, as docker names images.
    pub id: String,
    /// Normalized: `docker.io/library/nginx:latest`.
    pub tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// As it came: compressed where it was.
    pub size_bytes: u64,
    pub created: SystemTime,
    /// Its last origin is this machine (load, import, commit), not a registry.
    pub local: bool,
    pub config: ImageConfiguration,
    /// The image that it was committed from.
    pub parent: Option<String>,
    /// When it last got a name.
    pub tagged: Option<SystemTime>,
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// Names of the layers that Docker goes by, bottom first.
    pub chain_ids: Vec<String>,
}

impl Image {
    /// What Docker calls an image's size: that of all files of all layers.
    pub fn unpacked_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.unpacked_bytes).sum()
    }
}

/// What happened to an image, in the words of Docker's events.
#[derive(Clone, Debug)]
pub struct ImageEvent {
    /// `pull`, `push`, `tag`, `untag`, `delete`, `load`, `import`, `save`, `create`.
    pub action: &'static str,
    pub id: String,
    pub name: String,
    pub labels: HashMap<String, String>,
}

/// The image store.
pub struct Images {
    shared: Arc<Shared>,
    /// Where registries are dialed from; the caller's runtime when `None`.
    dial: Option<tokio::runtime::Handle>,
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
                events: broadcast::channel(EVENTS).0,
            };
            shared.drop_leftovers()?;
            Ok(shared)
        };
        let shared = open().map_err(disk_failed("opening the image store"))?;
        Ok(Self { shared: Arc::new(shared), dial: config.dial.clone() })
    }

    /// Accepts all that docker accepts: `nginx`, `nginx:1.25`, `host:5000/a/b@sha256:…`, an id or its unique prefix. An id
    /// also finds an image that was removed by force while there were containers of it.
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        let record = self.shared.catalog.lock().records.get(reference).cloned();
        self.image(record.or_else(|| self.shared.find(reference).ok())?)
    }

    /// As [`Images::resolve`], of images that aren't removed.
    ///
    /// # Errors
    /// In Docker's words: that there is no such image, or that the text can't name one.
    pub fn find(&self, reference: &str) -> Result<Image> {
        let record = self.shared.find(reference)?;
        self.image(record).ok_or_else(|| no_such_image(reference))
    }

    pub fn list(&self) -> Vec<Image> {
        let records = self.shared.catalog.lock().records.values().filter(|record| !record.removed).cloned().collect();
        let records: Vec<Record> = records;
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
            chain_ids: record.chain_ids(),
            id: record.id,
            tags: record.tags.into_iter().collect(),
            digests: record.digests.into_iter().collect(),
            created: record.created,
            local: record.local,
            config,
            parent: record.parent,
            tagged: record.tagged,
            layers: record.layers,
        })
    }

    /// An image's configuration as it came, with what only Docker writes into it.
    ///
    /// # Errors
    /// When there is no such image, or its configuration can't be read.
    pub fn document(&self, id: &str) -> Result<serde_json::Value> {
        let failed = failed("reading an image's configuration");
        let bytes = fs::read(self.shared.blob(id)?).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        bytes.map_err(failed)
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

    /// Says that `container` needs the image `id`, whose files stay until [`Images::release`].
    pub fn hold(&self, container: &str, id: &str) {
        self.shared.held.lock().insert(container.into(), id.into());
    }

    /// A receiver that lags is told so.
    pub fn events(&self) -> broadcast::Receiver<ImageEvent> {
        self.shared.events.subscribe()
    }

    /// Fetches what is missing, mirrors first. `progress` is called from the pulling task and must not block. A caller that goes away doesn't stop the transfer.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Auth,
        progress: impl Fn(PullProgress) + Send + Sync + 'static,
    ) -> Result<Image> {
        let options = PullOptions { auth, ..PullOptions::default() };
        let work = pull::pull(self.shared.clone(), Reference::parse(reference)?, options, Arc::new(progress));
        let id = self.runtime().spawn(work).await.map_err(|error| failed("pulling")(error))??;
        self.resolve(&id).ok_or_else(|| no_such_image(&id))
    }

    /// Reads a `docker save` or OCI archive, plain or compressed.
    pub async fn load(&self, archive: &Path) -> Result<Vec<Loaded>> {
        self.load_as(archive, |_, _, _| {}).await
    }

    /// As [`Images::load`]; `progress` is told the diff id of a layer, its bytes that are done, and all of them.
    pub async fn load_as(
        &self,
        archive: &Path,
        progress: impl Fn(&str, u64, u64) + Send + Sync + 'static,
    ) -> Result<Vec<Loaded>> {
        load::load(self.shared.clone(), archive.to_owned(), Arc::new(progress)).await
    }

    /// A file in the data directory, for archives on their way in.
    ///
    /// # Errors
    /// As making a file has them.
    pub fn scratch_file(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(self.shared.scratch())
    }

    /// Gives an image another name, which is taken from the image that has it.
    ///
    /// # Errors
    /// When there is no such image, or the name is one for a digest.
    pub async fn tag(&self, image: &str, reference: &Reference) -> Result<()> {
        let shared = self.shared.clone();
        let id = shared.find(image)?.id;
        let tag = reference
            .tagged()
            .ok_or_else(|| Error::Invalid("refusing to create a tag with a digest reference".into()))?;
        let familiar = reference.familiar();
        blocking(move || {
            let changed = shared.catalog.lock().change(|records| catalog::retag(records, &tag, &id));
            changed.map_err(disk_failed("naming an image"))?;
            shared.tell("tag", &id, &id, &familiar);
            Ok(())
        })
        .await
    }

    /// Does what speaks with registries where it has to be done, for as long as somebody waits for it.
    async fn dialing<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let work = AbortOnDropHandle::new(self.runtime().spawn(work));
        work.await.map_err(|error| failed("asking a registry")(error))?
    }

    fn runtime(&self) -> tokio::runtime::Handle {
        self.dial.clone().unwrap_or_else(tokio::runtime::Handle::current)
    }
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Failed { step, message: error.to_string() }
}

const DISK_FULL: &str = "no space left on device";

/// A full disk in words that say what to do.
fn disk_failed(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        let message = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("{DISK_FULL}: remove images or enlarge the disk of the data directory")
            }
            _ => error.to_string(),
        };
        Error::Failed { step, message }
    }
}

fn is_disk_full(error: &Error) -> bool {
    matches!(error, Error::Failed { message, .. } if message.starts_with(DISK_FULL))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed("working")(error))?
}
