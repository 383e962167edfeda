//! Sends images to their registry, as Docker does: a manifest of schema 2, layers as gzip, nothing that is there already.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::engine::{Error, Result};
use crate::images::catalog::{Layer, Packed, Record};
use crate::images::distribution::Refusal;
use crate::images::reference::Reference;
use crate::images::registry::{Direction, Endpoint};
use crate::images::store::{Claim, Shared};
use crate::images::unpack::{Packing, decompress, hex};
use crate::images::upload::Upload;
use crate::images::{Images, blocking, digest_of, disk_failed, failed};
use crate::spec::Auth;

/// Layers sent at once; Docker's default.
const CONCURRENT: usize = 5;
/// Repositories that a layer may be taken from.
const MOST_SOURCES: usize = 3;
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Where a push has got to, in the order in which Docker tells it. Layers are named by their diff ids.
#[derive(Clone, Debug)]
pub enum PushProgress {
    Begun {
        /// `docker.io/library/nginx`.
        repository: String,
    },
    Preparing {
        layer: String,
    },
    /// The registry has it already.
    Exists {
        layer: String,
    },
    Layer {
        layer: String,
        current: u64,
        total: u64,
    },
    Pushed {
        layer: String,
    },
    Mounted {
        layer: String,
        from: String,
    },
    /// The image is there.
    Recorded {
        tag: String,
        digest: String,
        bytes: usize,
    },
}

type Report = Arc<dyn Fn(PushProgress) + Send + Sync>;

impl Images {
    /// Sends the image of that name to its registry, or all of a repository's images when the name has no tag. Broken off
    /// when nobody waits for it any more.
    ///
    /// # Errors
    /// In Docker's words when there is no such image, and the registry's own otherwise.
    pub async fn push(
        &self,
        reference: Reference,
        auth: Auth,
        progress: impl Fn(PushProgress) + Send + Sync + 'static,
    ) -> Result<()> {
        progress(PushProgress::Begun { repository: reference.name() });
        let tags = to_push(&self.shared, &reference)?;
        let work = push(self.shared.clone(), reference, auth, tags, Arc::new(progress));
        self.dialing(work).await
    }
}

/// Tags with their images.
fn to_push(shared: &Shared, reference: &Reference) -> Result<Vec<(String, Record)>> {
    let unknown = |message: String| Error::Failed { step: "pushing", message };
    let name = reference.name();
    let catalog = shared.catalog.lock();
    let mut known = false;
    let mut tags = Vec::new();
    for record in catalog.records.values() {
        let of_it = |text: &&String| Reference::parse(text).is_ok_and(|reference| reference.name() == name);
        known |= record.digests.iter().any(|digest| of_it(&digest));
        tags.extend(record.tags.iter().filter(of_it).map(|tag| (tag[name.len() + 1..].to_owned(), record.clone())));
    }
    if !known && tags.is_empty() {
        let familiar = reference.familiar_name();
        return Err(unknown(format!("An image does not exist locally with the tag: {familiar}")));
    }
    if reference.digest.is_some() {
        return Err(unknown("cannot push a digest reference".into()));
    }
    if let Some(wanted) = &reference.tag {
        tags.retain(|(tag, _)| tag == wanted);
        if tags.is_empty() {
            return Err(unknown(format!("tag does not exist: {}", reference.familiar())));
        }
    }
    if tags.is_empty() {
        return Err(unknown(format!("no tags to push for {}", reference.familiar_name())));
    }
    tags.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(tags)
}

async fn push(
    shared: Arc<Shared>,
    reference: Reference,
    auth: Auth,
    tags: Vec<(String, Record)>,
    report: Report,
) -> Result<()> {
    let (routes, registry) = (shared.routes.clone(), reference.registry.clone());
    let endpoints = blocking(move || routes.own_endpoints(&registry, &auth, Direction::Push)).await?;
    let mut endpoints = endpoints.into_iter().peekable();
    // A registry on this host may speak either way; which one is told before anything is sent.
    let mut endpoint = loop {
        let endpoint = endpoints.next().expect("there is at least the registry itself");
        match endpoint.client.reach().await {
            Err(refusal) if endpoints.peek().is_none() => return Err(explain(&endpoint, &refusal)),
            Err(_) => {}
            Ok(()) => break endpoint,
        }
    };
    let sources = sources(&shared, &reference, &tags);
    let reading = sources.iter().map(|(_, repository)| format!("repository:{repository}:pull"));
    let own = format!("repository:{}:pull,push", reference.repository);
    endpoint.client.scopes = [own].into_iter().chain(reading).collect();
    let mut target = Target { shared, endpoint, reference, sources, report, seen: HashSet::new() };
    for (tag, record) in tags {
        target.push(&tag, record).await?;
    }
    let reference = &target.reference;
    let image = target.shared.find(&reference.to_string()).map(|record| record.id).unwrap_or_default();
    target.shared.tell("push", &image, &reference.familiar(), &reference.familiar_name());
    Ok(())
}

/// Repositories of the same registry that have a layer's blob.
fn sources(shared: &Shared, reference: &Reference, tags: &[(String, Record)]) -> Vec<(String, String)> {
    let wanted: HashSet<&str> = tags.iter().flat_map(|(_, record)| record.layers.iter().map(sent_digest)).collect();
    let prefix = format!("{}/", reference.registry);
    let mut found = Vec::new();
    for record in shared.catalog.lock().records.values() {
        let repositories = record.digests.iter().filter_map(|digest| digest.strip_prefix(&prefix)?.split('@').next());
        for repository in repositories.filter(|repository| *repository != reference.repository).take(MOST_SOURCES) {
            let shared = record.layers.iter().map(sent_digest).filter(|digest| wanted.contains(digest));
            found.extend(shared.map(|digest| (digest.to_owned(), repository.to_owned())));
        }
    }
    found
}

/// The digest by which registries have a layer, as far as that is known.
fn sent_digest(layer: &Layer) -> &str {
    layer.packed.as_ref().map_or(&layer.blob, |packed| &packed.digest)
}

/// A blob to send: in the store, or packed for it.
struct Blob {
    digest: String,
    bytes: u64,
    packed: Option<NamedTempFile>,
}

struct Target {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    reference: Reference,
    /// Digests of blobs, and repositories that have them.
    sources: Vec<(String, String)>,
    report: Report,
    /// Layers that are there, for sure.
    seen: HashSet<String>,
}

impl Target {
    async fn push(&mut self, tag: &str, record: Record) -> Result<()> {
        let mut claim = self.shared.claim();
        claim_all(&mut claim, &record);
        // The topmost first, as Docker has it.
        for layer in record.layers.iter().rev() {
            (self.report)(PushProgress::Preparing { layer: layer.diff_id.clone() });
        }
        let mut once = HashSet::new();
        let distinct: Vec<&Layer> = record.layers.iter().rev().filter(|layer| once.insert(&layer.diff_id)).collect();
        let target = &*self;
        let sending = distinct.into_iter().cloned().map(|layer| async move {
            let packed = target.layer(&layer).await?;
            Ok::<_, Error>((layer.diff_id, packed))
        });
        let sent: HashMap<String, Packed> =
            futures::stream::iter(sending).buffer_unordered(CONCURRENT).try_collect().await?;
        let described = |layer: &Layer| {
            let packed = &sent[&layer.diff_id];
            let kind = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            json!({ "mediaType": kind, "size": packed.bytes, "digest": packed.digest })
        };
        let layers: Vec<_> = record.layers.iter().map(described).collect();
        let config_bytes = self.config(&record.id).await?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json", "size": config_bytes, "digest": record.id,
            },
            "layers": layers,
        }))
        .map_err(failed("writing the manifest"))?;
        let put = self.endpoint.client.put_manifest(&self.reference.repository, tag, MANIFEST, &manifest).await;
        put.map_err(|refusal| explain(&self.endpoint, &refusal))?;
        let digest = digest_of(&manifest);
        self.remember(&record.id, sent, &digest).await?;
        self.seen.extend(record.layers.iter().map(|layer| layer.diff_id.clone()));
        (self.report)(PushProgress::Recorded { tag: tag.to_owned(), digest, bytes: manifest.len() });
        Ok(())
    }

    async fn layer(&self, layer: &Layer) -> Result<Packed> {
        let name = || layer.diff_id.clone();
        let repository = self.reference.repository.as_str();
        let explained = |refusal| explain(&self.endpoint, &refusal);
        let is_gzip = {
            let path = self.shared.blob(&layer.blob)?;
            let packing = blocking(move || {
                File::open(path).and_then(|file| Packing::of(&file)).map_err(disk_failed("reading a layer"))
            });
            packing.await? == Packing::Gzip
        };
        let known = match &layer.packed {
            _ if is_gzip => Some(Packed { digest: layer.blob.clone(), bytes: layer.bytes }),
            packed => packed.clone(),
        };
        if let Some(known) = &known {
            let exists = self.seen.contains(&layer.diff_id)
                || self.endpoint.client.has_blob(repository, &known.digest).await.map_err(explained)?;
            if exists {
                (self.report)(PushProgress::Exists { layer: name() });
                return Ok(known.clone());
            }
        }
        let blob = match known {
            Some(known) if is_gzip => Blob { digest: known.digest, bytes: known.bytes, packed: None },
            _ => self.pack(layer).await?,
        };
        let from = self.sources.iter().find(|(digest, _)| *digest == blob.digest).map(|(_, repository)| repository);
        let from = from.map(String::as_str);
        match self.endpoint.client.begin_upload(repository, &blob.digest, from).await.map_err(explained)? {
            Upload::Mounted => {
                let from = from.unwrap_or_default().to_owned();
                (self.report)(PushProgress::Mounted { layer: name(), from });
            }
            Upload::To(place) => {
                self.send(&place, &blob, name()).await?;
                (self.report)(PushProgress::Pushed { layer: name() });
            }
        }
        Ok(Packed { digest: blob.digest, bytes: blob.bytes })
    }

    async fn send(&self, place: &str, blob: &Blob, layer: String) -> Result<()> {
        let path = match &blob.packed {
            Some(file) => file.path().to_owned(),
            None => self.shared.blob(&blob.digest)?,
        };
        let (report, total, current) = (self.report.clone(), blob.bytes, AtomicU64::new(0));
        let sent = move |more: u64| {
            let current = current.fetch_add(more, Ordering::Relaxed) + more;
            report(PushProgress::Layer { layer: layer.clone(), current: current.min(total), total });
        };
        let open = Arc::new(move || File::open(&path));
        let sending = self.endpoint.client.send_blob(&self.reference.repository, place, open, total, Arc::new(sent));
        sending.await.map_err(|refusal| explain(&self.endpoint, &refusal))
    }

    /// The gzip form of a layer that is in another one.
    async fn pack(&self, layer: &Layer) -> Result<Blob> {
        let (path, scratch) = (self.shared.blob(&layer.blob)?, self.shared.scratch());
        blocking(move || pack(&path, &scratch).map_err(disk_failed("compressing a layer"))).await
    }

    async fn config(&self, id: &str) -> Result<u64> {
        let explained = |refusal| explain(&self.endpoint, &refusal);
        let repository = self.reference.repository.as_str();
        let path = self.shared.blob(id)?;
        let bytes = tokio::fs::metadata(&path).await.map_err(disk_failed("reading the configuration"))?.len();
        if !self.endpoint.client.has_blob(repository, id).await.map_err(explained)?
            && let Upload::To(place) =
                self.endpoint.client.begin_upload(repository, id, None).await.map_err(explained)?
        {
            let open = Arc::new(move || File::open(&path));
            let sending = self.endpoint.client.send_blob(repository, &place, open, bytes, Arc::new(|_| {}));
            sending.await.map_err(explained)?;
        }
        Ok(bytes)
    }

    /// The manifest's digest is a name of the image from now on; and what was packed needn't be packed to be found there.
    async fn remember(&self, id: &str, sent: HashMap<String, Packed>, digest: &str) -> Result<()> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        let name = format!("{}@{digest}", self.reference.name());
        blocking(move || {
            let changed = shared.catalog.lock().change(|records| {
                if let Some(record) = records.get_mut(&id) {
                    record.digests.insert(name);
                }
                for layer in records.values_mut().flat_map(|record| &mut record.layers) {
                    let form = sent.get(&layer.diff_id).filter(|form| form.digest != layer.blob);
                    layer.packed = form.cloned().or(layer.packed.take());
                }
            });
            changed.map_err(disk_failed("recording an image"))
        })
        .await
    }
}

fn claim_all(claim: &mut Claim, record: &Record) {
    claim.add(&record.id);
    for layer in &record.layers {
        claim.add(&layer.blob);
        claim.add(&layer.diff_id);
    }
}

fn pack(blob: &Path, scratch: &Path) -> io::Result<Blob> {
    let mut file = NamedTempFile::new_in(scratch)?;
    let mut packer = flate2::write::GzEncoder::new(Hashed::new(&mut file), flate2::Compression::default());
    io::copy(&mut decompress(File::open(blob)?)?, &mut packer)?;
    let Hashed { hash, bytes, .. } = packer.finish()?;
    let digest = format!("sha256:{}", hex(&hash.finalize()));
    Ok(Blob { digest, bytes, packed: Some(file) })
}

struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: io::Write> io::Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The registry's own words, as Docker gives them.
fn explain(endpoint: &Endpoint, refusal: &Refusal) -> Error {
    let message = match refusal {
        Refusal::Answer { .. } => refusal.to_string(),
        Refusal::Token { .. } => "denied: requested access to the resource is denied".into(),
        Refusal::Status(reqwest::StatusCode::UNAUTHORIZED) => "unauthorized: authentication required".into(),
        other => format!("registry {}: {other}", endpoint.host),
    };
    Error::Failed { step: "pushing", message }
}
