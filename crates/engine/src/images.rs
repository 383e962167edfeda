//! Images: pulled, loaded, listed, resolved, removed. Content is stored once, by digest, and verified before use.

use std::path::Path;
use std::time::SystemTime;

use oci_spec::image::ImageConfiguration;

use crate::engine::Result;
use crate::spec::Auth;

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
pub struct Images;

impl Images {
    /// Accepts all that docker accepts: `nginx`, `nginx:1.25`, `host:5000/a/b@sha256:…`, an id or its unique prefix.
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        let _ = reference;
        todo!()
    }
    pub fn list(&self) -> Vec<Image> {
        todo!()
    }
    /// Fetches what is missing, mirrors first. `progress` is called from the pulling task and must not block.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Auth,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<Image> {
        let _ = (reference, auth, progress);
        todo!()
    }
    /// Reads a `docker save` or OCI archive, plain or compressed; returns the names that were loaded.
    pub async fn load(&self, archive: &Path) -> Result<Vec<String>> {
        let _ = archive;
        todo!()
    }
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let _ = reference;
        todo!()
    }
}
