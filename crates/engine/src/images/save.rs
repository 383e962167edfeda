//! Writes images as archives that are both what `docker save` writes and an OCI layout. Blobs go in as they are: readers
//! of either kind take compressed layers, and nothing is packed or unpacked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::{Error, Result};
use crate::images::catalog::{Layer, Record};
use crate::images::reference::{Reference, is_digest, is_hex};
use crate::images::store::{Claim, Shared, no_such_image};
use crate::images::unpack::Packing;
use crate::images::{Images, blocking, digest_of, disk_failed, failed};

/// Pieces of the archive that wait for a slow reader.
const MOST_WAITING: usize = 8;
const PIECE_BYTES: usize = 256 << 10;

/// An image and the names under which it goes into the archive.
struct Chosen {
    record: Record,
    names: BTreeSet<String>,
}

impl Images {
    /// The archive of these images, each given by a name, a whole repository, or an id; only a name given is in it.
    ///
    /// # Errors
    /// In Docker's words when one of them isn't there. An error on the way ends the stream.
    pub async fn save(&self, names: &[String]) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let (shared, names) = (self.shared.clone(), names.to_vec());
        let (members, claim, ids) = blocking(move || {
            let chosen = choose(&shared, &names)?;
            let mut claim = shared.claim();
            let members = members(&shared, &mut claim, &chosen)?;
            Ok((members, claim, chosen.into_iter().map(|chosen| chosen.record.id).collect::<Vec<_>>()))
        })
        .await?;
        ids.iter().for_each(|id| self.shared.tell("save", id, id, id));
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        // Ends with the archive, or when its reader is gone.
        tokio::task::spawn_blocking(move || {
            let _claim = claim;
            if let Err(error) = write(members, sender.clone()) {
                // Fails when it is the reader who is gone.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

fn choose(shared: &Shared, names: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen = BTreeMap::<String, Chosen>::new();
    let mut add = |record: Record, name: Option<&String>| {
        let entry = chosen.entry(record.id.clone());
        let entry = entry.or_insert_with(|| Chosen { record, names: BTreeSet::new() });
        entry.names.extend(name.cloned());
    };
    for text in names {
        let is_id = is_digest(text) || (text.len() == 64 && is_hex(text));
        let written = if is_id { None } else { Some(Reference::parse_as_written(text)?) };
        let repository = written.as_ref().filter(|reference| reference.tag.is_none() && reference.digest.is_none());
        let of_repository = repository.map(|repository| format!("{}:", repository.name()));
        let records: Vec<Record> = match &of_repository {
            Some(prefix) => {
                let catalog = shared.catalog.lock();
                let named = |record: &&Record| record.tags.iter().any(|tag| is_tag_of(tag, prefix));
                catalog.records.values().filter(named).cloned().collect()
            }
            None => Vec::new(),
        };
        if records.is_empty() {
            let record = shared.find(text).map_err(|error| match (error, &written) {
                // Docker has words of its own for a name in full.
                (Error::NotFound(_), Some(_)) if repository.is_none() => {
                    Error::NotFound("reference does not exist".into())
                }
                (Error::NotFound(_), Some(written)) => no_such_image(&written.familiar()),
                (error, _) => error,
            })?;
            let tag = written.and_then(|reference| reference.tagged()).filter(|tag| record.tags.contains(tag));
            add(record, tag.as_ref());
            continue;
        }
        let prefix = of_repository.unwrap_or_default();
        for record in records {
            for tag in record.tags.clone().iter().filter(|tag| is_tag_of(tag, &prefix)) {
                add(record.clone(), Some(tag));
            }
        }
    }
    Ok(chosen.into_values().collect())
}

/// `host:5000/a` is no tag of `host`.
fn is_tag_of(tag: &str, prefix: &str) -> bool {
    tag.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/'))
}

enum Content {
    Bytes(Vec<u8>),
    File(File),
}

/// What is in the archive, by name: in the order in which Docker writes it.
type Members = BTreeMap<String, Content>;

fn members(shared: &Shared, claim: &mut Claim, chosen: &[Chosen]) -> Result<Members> {
    let mut members = Members::new();
    let (mut manifest, mut index) = (Vec::new(), Vec::new());
    let mut repositories = BTreeMap::<String, BTreeMap<String, String>>::new();
    for Chosen { record, names } in chosen {
        let mut layers = Vec::new();
        let config_bytes = add_blob(shared, claim, &mut members, &record.id)?;
        for layer in &record.layers {
            let bytes = add_blob(shared, claim, &mut members, &layer.blob)?;
            layers.push(json!({ "mediaType": media_type(shared, layer)?, "digest": layer.blob, "size": bytes }));
        }
        let oci = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": record.id, "size": config_bytes,
            },
            "layers": layers,
        }))
        .map_err(failed("writing the archive"))?;
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(&oci), "size": oci.len(),
        });
        members.insert(blob_name(&digest_of(&oci)), Content::Bytes(oci));
        index.extend(descriptors(descriptor, names)?);
        let top = record.layers.last().map(|layer| layer.blob.trim_start_matches("sha256:").to_owned());
        for reference in parsed(names)? {
            let tag = reference.tag.clone().unwrap_or_default();
            repositories.entry(reference.familiar_name()).or_default().insert(tag, top.clone().unwrap_or_default());
        }
        let tags: Vec<String> = parsed(names)?.iter().map(Reference::familiar).collect();
        manifest.push(json!({
            "Config": blob_name(&record.id),
            "RepoTags": if tags.is_empty() { Value::Null } else { tags.into() },
            "Layers": record.layers.iter().map(|layer| blob_name(&layer.blob)).collect::<Vec<_>>(),
        }));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index,
    });
    let mut document = |name: &str, value: Value| members.insert(name.into(), Content::Bytes(value.to_string().into()));
    document("index.json", index);
    document("manifest.json", manifest.into());
    document("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }));
    if !repositories.is_empty() {
        document("repositories", json!(repositories));
    }
    Ok(members)
}

fn parsed(names: &BTreeSet<String>) -> Result<Vec<Reference>> {
    names.iter().map(|name| Reference::parse(name)).collect()
}

/// One a name, with the annotations that containerd and skopeo read it from.
fn descriptors(descriptor: Value, names: &BTreeSet<String>) -> Result<Vec<Value>> {
    if names.is_empty() {
        return Ok(vec![descriptor]);
    }
    let named = |reference: Reference| {
        let mut named = descriptor.clone();
        named["annotations"] = json!({
            "io.containerd.image.name": reference.to_string(), "org.opencontainers.image.ref.name": reference.tag,
        });
        named
    };
    Ok(parsed(names)?.into_iter().map(named).collect())
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Opened now: a removal of the image in the middle of it does no harm.
fn add_blob(shared: &Shared, claim: &mut Claim, members: &mut Members, digest: &str) -> Result<u64> {
    claim.add(digest);
    let file = File::open(shared.blob(digest)?).map_err(disk_failed("reading a blob"))?;
    let bytes = file.metadata().map_err(disk_failed("reading a blob"))?.len();
    members.insert(blob_name(digest), Content::File(file));
    Ok(bytes)
}

fn media_type(shared: &Shared, layer: &Layer) -> Result<&'static str> {
    let packing = File::open(shared.blob(&layer.blob)?).and_then(|file| Packing::of(&file));
    Ok(match packing.map_err(disk_failed("reading a blob"))? {
        Packing::None => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    })
}

fn write(members: Members, to: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE_BYTES, Pieces(to)));
    for directory in ["blobs/", "blobs/sha256/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, directory, io::empty())?;
    }
    for (name, content) in members {
        match content {
            Content::Bytes(bytes) => {
                let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
                archive.append_data(&mut header, name, bytes.as_slice())?;
            }
            Content::File(file) => {
                let mut header = header(tar::EntryType::Regular, 0o644, file.metadata()?.len());
                archive.append_data(&mut header, name, file)?;
            }
        }
    }
    archive.into_inner()?.flush()
}

/// All files are from the beginning of time, so that the same images give the same archive.
fn header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
