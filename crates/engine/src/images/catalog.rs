//! Which images there are: `images.json`, written anew and synced for each change, and the same in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// One image: its parts by digest, and its names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the configuration.
    pub id: String,
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// `docker.io/library/nginx:latest`.
    pub tags: BTreeSet<String>,
    /// `docker.io/library/nginx@sha256:…`, the manifest's digest as it was asked for.
    pub digests: BTreeSet<String>,
    pub local: bool,
    pub created: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob, compressed or not, as it came.
    pub blob: String,
    /// Digest of the uncompressed archive; names the unpacked directory.
    pub diff_id: String,
    pub bytes: u64,
}

/// All records, by id.
pub struct Catalog {
    path: PathBuf,
    pub records: BTreeMap<String, Record>,
}

impl Catalog {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("images.json");
        let records = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, records })
    }

    /// Makes the records durable.
    pub fn save(&self) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(&serde_json::to_vec(&self.records)?)?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Gives `tag` to the image `id` alone.
    pub fn retag(&mut self, tag: &str, id: &str) {
        for record in self.records.values_mut() {
            record.tags.remove(tag);
        }
        if let Some(record) = self.records.get_mut(id) {
            record.tags.insert(tag.into());
        }
    }

    /// Digests of blobs and diff ids that some image needs.
    pub fn used(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let blobs = self.records.values().flat_map(|r| r.layers.iter().map(|l| l.blob.as_str()).chain([r.id.as_str()]));
        let layers = self.records.values().flat_map(|r| r.layers.iter().map(|l| l.diff_id.as_str()));
        (blobs.collect(), layers.collect())
    }
}
