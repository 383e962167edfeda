//! Which images there are: `images.json`, written anew and synced for each change, and the same in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::images::unpack::hex;

const LEAST_SPARE_BYTES: usize = 64 << 10;

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
    /// The image that this one was committed from.
    #[serde(default)]
    pub parent: Option<String>,
    /// When it last got a name.
    #[serde(default)]
    pub tagged: Option<SystemTime>,
    /// Removed by force while containers were made from it: only these still see it.
    #[serde(default)]
    pub removed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob, compressed or not, as it came.
    pub blob: String,
    /// Digest of the uncompressed archive; names the unpacked directory.
    pub diff_id: String,
    /// Of the blob.
    pub bytes: u64,
    /// Of the files in it: what Docker calls its size.
    #[serde(default)]
    pub unpacked_bytes: u64,
    /// What registries were given in place of a blob that isn't gzip.
    #[serde(default)]
    pub packed: Option<Packed>,
}

/// A layer's gzip form, which isn't kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    pub digest: String,
    pub bytes: u64,
}

impl Record {
    /// Tags and digests, in the order in which Docker tells them.
    pub fn references(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.tags.iter().chain(&self.digests).collect();
        all.into_iter().cloned().collect()
    }

    /// What names each layer together with those below it (OCI image-spec, `config.md`), bottom first.
    pub fn chain_ids(&self) -> Vec<String> {
        let mut chain = Vec::<String>::new();
        for layer in &self.layers {
            chain.push(match chain.last() {
                Some(below) => format!("sha256:{}", hex(&Sha256::digest(format!("{below} {}", layer.diff_id)))),
                None => layer.diff_id.clone(),
            });
        }
        chain
    }
}

/// All records, by id.
pub struct Catalog {
    path: PathBuf,
    pub records: BTreeMap<String, Record>,
    /// Digests that transfers under way work with, and how many of these.
    pub pins: HashMap<String, usize>,
}

impl Catalog {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("images.json");
        let records = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, records, pins: HashMap::new() })
    }

    /// Makes the records durable. On a full disk too, or nobody could make room by removing images: some is kept back.
    pub fn save(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.records)?;
        let spare = self.path.with_extension("spare");
        match self.write(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                fs::remove_file(&spare)?;
                self.write(&bytes)?;
            }
            other => other?,
        }
        let wanted = LEAST_SPARE_BYTES.max(2 * bytes.len());
        if fs::metadata(&spare).map_or(0, |kept| kept.len()) < wanted as u64
            && let Err(error) = fs::write(&spare, vec![0; wanted])
        {
            tracing::debug!(%error, "there is no room to keep back");
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Changes the records, which stay as they were when that can't be written down.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, Record>) -> T) -> io::Result<T> {
        let before = self.records.clone();
        let made = change(&mut self.records);
        match self.save() {
            Ok(()) => Ok(made),
            Err(error) => {
                self.records = before;
                Err(error)
            }
        }
    }

    /// A layer of some image that has this diff id.
    pub fn layer(&self, diff_id: &str) -> Option<&Layer> {
        self.records.values().flat_map(|record| &record.layers).find(|layer| layer.diff_id == diff_id)
    }

    /// Digests of blobs and diff ids that some image or transfer needs.
    pub fn used(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let pins = || self.pins.keys().map(String::as_str);
        let blobs = self.records.values().flat_map(|r| r.layers.iter().map(|l| l.blob.as_str()).chain([r.id.as_str()]));
        let layers = self.records.values().flat_map(|r| r.layers.iter().map(|l| l.diff_id.as_str()));
        (blobs.chain(pins()).collect(), layers.chain(pins()).collect())
    }
}

/// Gives `tag` to the image `id` alone; the image that had it.
pub fn retag(records: &mut BTreeMap<String, Record>, tag: &str, id: &str) -> Option<String> {
    let mut before = None;
    for record in records.values_mut() {
        if record.tags.remove(tag) {
            before = Some(record.id.clone());
        }
    }
    if let Some(record) = records.get_mut(id) {
        record.tags.insert(tag.into());
        record.tagged = Some(SystemTime::now());
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_name_layers_with_those_below() {
        let layer = |digit: char| Layer {
            blob: String::new(),
            diff_id: format!("sha256:{}", digit.to_string().repeat(64)),
            bytes: 0,
            unpacked_bytes: 0,
            packed: None,
        };
        let record = Record {
            id: String::new(),
            layers: vec![layer('a'), layer('b')],
            tags: ["z/a:1".to_owned()].into(),
            digests: ["z/a@sha256:0".to_owned()].into(),
            local: false,
            created: SystemTime::UNIX_EPOCH,
            parent: None,
            tagged: None,
            removed: false,
        };
        let chain = record.chain_ids();
        assert_eq!(chain[0], layer('a').diff_id);
        // As `printf 'sha256:aa… sha256:bb…' | sha256sum` has it.
        assert_eq!(chain[1], "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c");
        assert_eq!(record.references(), ["z/a:1", "z/a@sha256:0"]);
    }
}
