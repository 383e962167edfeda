//! Reads image archives: what `docker save` writes, and OCI layouts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::engine::{Error, Result};
use crate::images::catalog::{Layer, Record};
use crate::images::reference::Reference;
use crate::images::store::{Claim, Shared};
use crate::images::unpack::{bad_header, decompress, hex};
use crate::images::{blocking, disk_failed, failed};

/// Files of an archive laid down for random access, and removed with this value.
struct Archive {
    directory: tempfile::TempDir,
    /// Links between members, which older archives use for layers that images share.
    links: HashMap<PathBuf, PathBuf>,
}

/// An image of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub id: String,
    /// Normalized.
    pub tags: Vec<String>,
    /// Tags that other images had until now, and these.
    pub renamed: Vec<(String, String)>,
}

/// Told a layer's diff id, and how many of its bytes are done.
pub type Report = Arc<dyn Fn(&str, u64, u64) + Send + Sync>;

/// Brings all images of the archive into the store; nothing is recorded unless all of it is well.
pub async fn load(store: Arc<Shared>, path: PathBuf, report: Report) -> Result<Vec<Loaded>> {
    let reading = store.clone();
    let (records, claim) = blocking(move || {
        let mut claim = reading.claim();
        match read(&reading, &mut claim, &path, &report) {
            Ok(records) => Ok((records, claim)),
            Err(error) => {
                claim.abandon();
                Err(error)
            }
        }
    })
    .await?;
    let mut loaded = Vec::new();
    for record in records {
        let (id, tags) = (record.id.clone(), record.tags.iter().cloned().collect());
        let before = store.record(record).await?;
        let others = before.into_iter().filter_map(|(tag, had)| Some((tag, had.filter(|had| *had != id)?)));
        let renamed = others.collect();
        store.tell("load", &id, &id, &id);
        loaded.push(Loaded { id, tags, renamed });
    }
    drop(claim);
    Ok(loaded)
}

/// The records to make.
fn read(store: &Shared, claim: &mut Claim, path: &Path, report: &Report) -> Result<Vec<Record>> {
    let archive = Archive::read(store, path).map_err(disk_failed("reading the archive"))?;
    if let Some(bytes) = archive.file("manifest.json") {
        docker_archive(store, claim, &archive, &bytes, report)
    } else if let Some(bytes) = archive.file("index.json") {
        oci_layout(store, claim, &archive, &bytes, report)
    } else {
        Err(Error::Invalid("invalid archive: does not contain a manifest.json".into()))
    }
}

impl Archive {
    fn read(store: &Shared, path: &Path) -> io::Result<Self> {
        let directory = tempfile::TempDir::new_in(store.scratch())?;
        let mut links = HashMap::new();
        let mut members = tar::Archive::new(decompress(File::open(path)?)?);
        for member in members.entries()? {
            let mut member = member.map_err(bad_header)?;
            let name = inside(&member.path()?)?;
            match member.header().entry_type() {
                EntryType::Regular => {
                    let target = directory.path().join(&name);
                    fs::create_dir_all(target.parent().unwrap_or(directory.path()))?;
                    io::copy(&mut member, &mut File::create(target)?)?;
                }
                EntryType::Symlink | EntryType::Link => {
                    let Some(target) = member.link_name()? else { continue };
                    let from = if member.header().entry_type() == EntryType::Symlink { name.parent() } else { None };
                    links.insert(name.clone(), inside(&from.unwrap_or(Path::new("")).join(target))?);
                }
                _ => {}
            }
        }
        Ok(Self { directory, links })
    }

    fn path(&self, name: &str) -> PathBuf {
        let name = Path::new(name);
        let name = self.links.get(name).map_or(name, PathBuf::as_path);
        self.directory.path().join(name)
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }
}

/// A member's name without `.` and with each `..` taken back, which must not lead out.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        let inside = match component {
            Component::Normal(part) => {
                clean.push(part);
                true
            }
            Component::ParentDir => clean.pop(),
            Component::CurDir => true,
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !inside {
            let words = format!("the member {} leads out of the archive", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
    }
    Ok(clean)
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

fn docker_archive(
    store: &Shared,
    claim: &mut Claim,
    archive: &Archive,
    bytes: &[u8],
    report: &Report,
) -> Result<Vec<Record>> {
    let images: Vec<DockerImage> =
        serde_json::from_slice(bytes).map_err(|error| failed("reading manifest.json")(error))?;
    let mut records = Vec::new();
    for image in images {
        let id = take_blob(store, claim, &archive.path(&image.config), None)?;
        let config = store.configuration(&id)?;
        let layers: Vec<PathBuf> = image.layers.iter().map(|name| archive.path(name)).collect();
        let mut tags = Vec::new();
        for name in image.repo_tags.unwrap_or_default() {
            tags.extend(Reference::parse(&name)?.tagged());
        }
        records.push(take_image(store, claim, (id, &config), &layers, tags, report)?);
    }
    Ok(records)
}

fn oci_layout(
    store: &Shared,
    claim: &mut Claim,
    archive: &Archive,
    bytes: &[u8],
    report: &Report,
) -> Result<Vec<Record>> {
    let index = ImageIndex::from_reader(bytes).map_err(|error| failed("reading index.json")(error))?;
    let mut records = Vec::new();
    for descriptor in index.manifests() {
        let Some((_, manifest)) = oci_manifest(archive, descriptor, 0)? else { continue };
        let blob = |descriptor: &Descriptor| archive.path(&blob_name(descriptor));
        let id = take_blob(store, claim, &blob(manifest.config()), Some(manifest.config().digest().as_ref()))?;
        let config = store.configuration(&id)?;
        let layers: Vec<PathBuf> = manifest.layers().iter().map(blob).collect();
        let annotations = descriptor.annotations().clone().unwrap_or_default();
        let name = annotations.get("io.containerd.image.name").or(annotations.get("org.opencontainers.image.ref.name"));
        let tags = name.and_then(|name| Reference::parse(name).ok()?.tagged()).into_iter().collect();
        records.push(take_image(store, claim, (id, &config), &layers, tags, report)?);
    }
    Ok(records)
}

fn blob_name(descriptor: &Descriptor) -> String {
    format!("blobs/{}", descriptor.digest().as_ref().replace(':', "/"))
}

/// The image manifest behind a descriptor; of an index, the one for this platform.
fn oci_manifest(archive: &Archive, descriptor: &Descriptor, depth: u8) -> Result<Option<(String, ImageManifest)>> {
    let digest = descriptor.digest().to_string();
    let Some(bytes) = archive.file(&blob_name(descriptor)) else {
        return Err(failed("reading the archive")(format!("it lacks the blob {digest}")));
    };
    if let Ok(manifest) = ImageManifest::from_reader(bytes.as_slice()) {
        return Ok(Some((digest, manifest)));
    }
    let index =
        ImageIndex::from_reader(bytes.as_slice()).map_err(|error| failed("reading the archive's index")(error))?;
    if depth > 3 {
        return Err(failed("reading the archive")("its indexes are nested too deep"));
    }
    let here = |d: &&Descriptor| d.platform().as_ref().is_none_or(|p| *p.architecture() == Arch::default());
    match index.manifests().iter().find(here) {
        Some(inner) => oci_manifest(archive, inner, depth + 1),
        None => Ok(None),
    }
}

fn take_image(
    store: &Shared,
    claim: &mut Claim,
    (id, config): (String, &ImageConfiguration),
    paths: &[PathBuf],
    tags: Vec<String>,
    report: &Report,
) -> Result<Record> {
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != paths.len() {
        let counts = format!("{} layers, but {} diff ids", paths.len(), diff_ids.len());
        return Err(failed("reading the configuration")(counts));
    }
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        if let Some(known) = claim.layer(diff_id) {
            layers.push(known);
            continue;
        }
        let bytes = fs::metadata(path).map_err(disk_failed("reading a layer"))?.len();
        report(diff_id, 0, bytes);
        let blob = take_blob(store, claim, path, None)?;
        let layer = Layer { blob, diff_id: diff_id.clone(), bytes, unpacked_bytes: 0, packed: None };
        layers.push(store.unpack_blocking(layer)?);
        report(diff_id, bytes, bytes);
    }
    Ok(Record {
        id,
        layers,
        tags: tags.into_iter().collect(),
        digests: Default::default(),
        local: true,
        created: SystemTime::now(),
        parent: None,
        tagged: None,
        removed: false,
    })
}

/// Puts a file among the blobs, under its digest, which must be `expected` where that is known.
pub fn take_blob(store: &Shared, claim: &mut Claim, path: &Path, expected: Option<&str>) -> Result<String> {
    let take = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        Ok(format!("sha256:{}", hex(&hash.finalize())))
    };
    let digest = take().map_err(|error| failed("reading the archive")(format!("{}: {error}", path.display())))?;
    if expected.is_some_and(|expected| expected != digest) {
        return Err(failed("verifying the archive")(format!("a blob's digest is {digest}")));
    }
    claim.add(&digest);
    let target = store.blob(&digest)?;
    if !target.exists() {
        // Linked, not renamed: another image of the archive may hold the same layer.
        match fs::hard_link(path, &target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(disk_failed("storing a blob")(error));
            }
            _ => {}
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_inside() {
        let cases = [
            ("a/b", Some("a/b")),
            ("./a", Some("a")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("/a", None),
            ("a/../../b", None),
        ];
        for (name, expected) in cases {
            assert_eq!(inside(Path::new(name)).ok(), expected.map(PathBuf::from), "{name}");
        }
    }
}
