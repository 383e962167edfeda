//! Fetches an image: its manifest, its configuration and its layers, several at once, each resumed where an earlier try
//! ended, verified, and unpacked as soon as it is whole.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::engine::{Error, Result};
use crate::images::catalog::{Layer, Record};
use crate::images::distribution::{MOST_DOCUMENT_BYTES, Refusal};
use crate::images::platform::Platform;
use crate::images::reference::Reference;
use crate::images::registry::{self, Endpoint, Failures};
use crate::images::store::{Claim, Shared};
use crate::images::unpack::hex;
use crate::images::{Image, Images, blocking, disk_failed, failed, is_disk_full};
use crate::spec::Auth;

/// Layers fetched at once; Docker's default.
const CONCURRENT: usize = 3;
pub type Report = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// Whose credentials a pull uses, and what of an index it takes.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    pub auth: Auth,
    /// This host's when `None`.
    pub platform: Option<Platform>,
}

/// Where a pull has got to, in the order in which Docker tells it.
#[derive(Clone, Debug)]
pub enum PullProgress {
    /// The image's manifest is there.
    Begun {
        /// `library/nginx`.
        repository: String,
        /// Its tag, or its whole name with a digest.
        tag: String,
    },
    /// A layer is there already.
    Exists {
        digest: String,
    },
    /// A layer will be fetched.
    Waiting {
        digest: String,
    },
    /// Bytes of one layer fetched so far, of so many.
    Layer {
        digest: String,
        current: u64,
        total: u64,
    },
    Fetched {
        digest: String,
    },
    Extracting {
        digest: String,
        total: u64,
    },
    Done {
        digest: String,
    },
    /// The image is recorded.
    Recorded {
        /// Of the manifest, or of the index that it was chosen from.
        digest: String,
        /// The name had another image before, or none.
        newer: bool,
    },
}

impl Images {
    /// As [`Images::pull`], with a choice of platform; when nobody waits for it any more, it is broken off, and the next
    /// one goes on there. Without a tag or a digest all of a repository's tags are fetched.
    ///
    /// # Errors
    /// As [`Images::pull`]; of the images fetched until then.
    pub async fn pull_as(
        &self,
        reference: Reference,
        options: PullOptions,
        progress: impl Fn(PullProgress) + Send + Sync + 'static,
    ) -> Result<Vec<Image>> {
        let report: Report = Arc::new(progress);
        let is_repository = reference.tag.is_none() && reference.digest.is_none();
        let references = if is_repository {
            let listing = tags(self.shared.clone(), reference.clone(), options.auth.clone());
            let tags = self.dialing(listing).await?;
            tags.into_iter().map(|tag| Reference { tag: Some(tag), ..reference.clone() }).collect()
        } else {
            vec![reference]
        };
        let mut images = Vec::new();
        for reference in references {
            let id = self.dialing(pull(self.shared.clone(), reference, options.clone(), report.clone())).await?;
            images.extend(self.resolve(&id));
        }
        Ok(images)
    }
}

/// Tries each endpoint in turn.
pub async fn pull(store: Arc<Shared>, reference: Reference, options: PullOptions, report: Report) -> Result<String> {
    let endpoints = {
        let (store, reference) = (store.clone(), reference.clone());
        blocking(move || store.routes.endpoints(&reference, &options.auth)).await?
    };
    let platform = options.platform.unwrap_or_else(Platform::host);
    let mut failures = Failures::default();
    for endpoint in endpoints {
        let mut claim = store.claim();
        match pull_from(&store, &mut claim, &endpoint, &reference, &platform, &report).await {
            Ok(id) => return Ok(id),
            Err(error) => {
                tracing::info!(image = %reference, host = endpoint.host, %error, "can't pull from here");
                // What there is of a blob is kept for the next try, unless there is no room for that.
                if is_disk_full(&error) {
                    return blocking(move || {
                        claim.abandon();
                        Err(error)
                    })
                    .await;
                }
                failures.add(&endpoint.host, error);
            }
        }
    }
    Err(failures.told())
}

/// Names of all of a repository's tags.
async fn tags(store: Arc<Shared>, reference: Reference, auth: Auth) -> Result<Vec<String>> {
    let (routes, asked) = (store.routes.clone(), reference.clone());
    let endpoints = blocking(move || routes.endpoints(&asked, &auth)).await?;
    let mut failures = Failures::default();
    for endpoint in endpoints {
        match endpoint.client.tags(&reference.repository).await {
            Ok(tags) => return Ok(tags),
            Err(refusal) => failures.add(&endpoint.host, registry::explain(&reference, &endpoint.host, refusal)),
        }
    }
    Err(failures.told())
}

async fn pull_from(
    store: &Arc<Shared>,
    claim: &mut Claim,
    endpoint: &Endpoint,
    reference: &Reference,
    platform: &Platform,
    report: &Report,
) -> Result<String> {
    let repository = reference.repository.as_str();
    let (digest, manifest) = manifest(endpoint, reference, platform).await?;
    let tag = match &reference.digest {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.tag.clone().unwrap_or_default(),
    };
    report(PullProgress::Begun { repository: repository.to_owned(), tag });
    let config = manifest.config();
    if config.size() > MOST_DOCUMENT_BYTES {
        return Err(failed("reading the configuration")(format!("{} bytes are too many", config.size())));
    }
    let id = config.digest().to_string();
    claim.add(&id);
    fetch(store, endpoint, repository, config, &|_| {}).await.map_err(explained(reference, endpoint))?;
    let layers = pair_layers(&manifest, &store.configuration(&id)?)?;

    // Of an image that there is already Docker tells no layers.
    let is_whole = store.catalog.lock().records.get(&id).is_some_and(|record| !record.removed);
    let mut wanted = Vec::new();
    for (descriptor, layer) in manifest.layers().iter().zip(layers) {
        let (digest, known) = (layer.blob.clone(), claim.layer(&layer.diff_id));
        match known {
            Some(_) if is_whole => {}
            Some(_) => report(PullProgress::Exists { digest }),
            None => report(PullProgress::Waiting { digest }),
        }
        claim.add(&layer.blob);
        wanted.push((descriptor.clone(), layer, known));
    }
    let fetched = futures::stream::iter(wanted.into_iter().enumerate()).map(|(place, wanted)| async move {
        let layer = match wanted {
            (_, _, Some(known)) => known,
            (descriptor, layer, None) => fetch_layer(store, endpoint, reference, &descriptor, layer, report).await?,
        };
        Ok::<_, Error>((place, layer))
    });
    let mut layers: Vec<(usize, Layer)> = fetched.buffer_unordered(CONCURRENT).try_collect().await?;
    layers.sort_by_key(|(place, _)| *place);
    let layers = layers.into_iter().map(|(_, layer)| layer).collect();

    let tags = reference.tagged().into_iter().collect();
    let record = Record {
        id: id.clone(),
        layers,
        tags,
        digests: [format!("{}@{digest}", reference.name())].into(),
        local: false,
        created: SystemTime::now(),
        parent: None,
        tagged: None,
        removed: false,
    };
    let newer = store.find(&reference.to_string()).map_or(true, |before| before.id != id);
    store.record(record).await?;
    store.tell("pull", &id, &reference.familiar(), &reference.familiar_name());
    report(PullProgress::Recorded { digest, newer });
    Ok(id)
}

async fn fetch_layer(
    store: &Arc<Shared>,
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    layer: Layer,
    report: &Report,
) -> Result<Layer> {
    let digest = layer.blob.clone();
    let fetched = fetch(store, endpoint, &reference.repository, descriptor, report.as_ref()).await;
    fetched.map_err(explained(reference, endpoint))?;
    report(PullProgress::Fetched { digest: digest.clone() });
    report(PullProgress::Extracting { digest: digest.clone(), total: layer.bytes });
    let layer = store.unpack_layer(layer).await?;
    report(PullProgress::Done { digest });
    Ok(layer)
}

/// The image's own manifest, and the digest that it was asked for by.
async fn manifest(
    endpoint: &Endpoint,
    reference: &Reference,
    platform: &Platform,
) -> Result<(String, Box<ImageManifest>)> {
    let asked = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let get = async |name: &str| {
        let bytes = endpoint.client.manifest(&reference.repository, name).await;
        bytes.map_err(|refusal| registry::explain(reference, &endpoint.host, refusal))
    };
    let bytes = get(asked).await?;
    let digest = digest_of(&bytes);
    if reference.digest.as_ref().is_some_and(|asked| *asked != digest) {
        return Err(failed("verifying the manifest")(format!("its digest is {digest}")));
    }
    let index = match parse_manifest(&bytes)? {
        Manifest::Image(manifest) => return Ok((digest, manifest)),
        Manifest::Index(index) => index,
    };
    // Docker's words (`no matching manifest for linux/amd64 in the manifest list entries`).
    let chosen = platform.choose(&index).ok_or_else(|| {
        let name = reference.familiar_name();
        Error::NotFound(format!("{name}: no matching manifest for {platform} in the manifest list entries"))
    })?;
    let bytes = get(&chosen).await?;
    if digest_of(&bytes) != chosen {
        return Err(failed("verifying the manifest")(format!("it isn't {chosen}")));
    }
    match parse_manifest(&bytes)? {
        Manifest::Image(manifest) => Ok((digest, manifest)),
        Manifest::Index(_) => Err(failed("reading the manifest")("an index in an index")),
    }
}

enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| failed("reading the manifest")(error))?;
    let parsed = if value.get("manifests").is_some() {
        serde_json::from_value(value).map(|index| Manifest::Index(Box::new(index)))
    } else if value.get("schemaVersion") == Some(&1.into()) {
        return Err(Error::Invalid(
            "the image has a manifest of schema version 1, which is no longer supported".into(),
        ));
    } else {
        serde_json::from_value(value).map(|image| Manifest::Image(Box::new(image)))
    };
    parsed.map_err(|error| failed("reading the manifest")(error))
}

/// Layers of the manifest with the diff ids of the configuration, which must be as many.
fn pair_layers(manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Vec<Layer>> {
    let diff_ids = config.rootfs().diff_ids();
    let layers = manifest.layers();
    if diff_ids.len() != layers.len() {
        let counts = format!("{} layers, but {} diff ids", layers.len(), diff_ids.len());
        return Err(failed("reading the configuration")(counts));
    }
    let pair = |(descriptor, diff_id): (&Descriptor, &String)| Layer {
        blob: descriptor.digest().to_string(),
        diff_id: diff_id.clone(),
        bytes: descriptor.size(),
        unpacked_bytes: 0,
        packed: None,
    };
    Ok(layers.iter().zip(diff_ids).map(pair).collect())
}

fn explained<'a>(reference: &'a Reference, endpoint: &'a Endpoint) -> impl Fn(FetchError) -> Error + 'a {
    move |error| match error {
        FetchError::Registry(refusal) => registry::explain(reference, &endpoint.host, refusal),
        FetchError::Disk(error) => disk_failed("storing a layer")(error),
        FetchError::Wrong(message) => failed("verifying a layer")(message),
    }
}

enum FetchError {
    Registry(Refusal),
    Disk(io::Error),
    Wrong(String),
}

impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        Self::Registry(refusal)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Brings one blob into the store. Two pulls that need the same blob share one transfer.
async fn fetch(
    store: &Shared,
    endpoint: &Endpoint,
    repository: &str,
    descriptor: &Descriptor,
    report: &(dyn Fn(PullProgress) + Send + Sync),
) -> std::result::Result<(), FetchError> {
    let digest = &descriptor.digest().to_string();
    let lock = store.blob_lock(digest);
    let _alone = lock.lock().await;
    let path = store.blob(digest).map_err(|error| FetchError::Wrong(error.to_string()))?;
    if path.exists() {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    let fetched = fetch_rest(endpoint, repository, descriptor, &partial, report).await;
    if matches!(&fetched, Err(FetchError::Disk(error)) if error.kind() == io::ErrorKind::StorageFull) {
        // Else the disk stays full.
        tokio::fs::remove_file(&partial).await?;
    }
    fetched?;
    tokio::fs::rename(&partial, &path).await?;
    Ok(())
}

async fn fetch_rest(
    endpoint: &Endpoint,
    repository: &str,
    descriptor: &Descriptor,
    partial: &Path,
    report: &(dyn Fn(PullProgress) + Send + Sync),
) -> std::result::Result<(), FetchError> {
    let (digest, total) = (&descriptor.digest().to_string(), descriptor.size());
    let (mut file, mut hash, mut current) = resume(partial).await?;
    if current > total {
        file.set_len(0).await?;
        file.seek(SeekFrom::Start(0)).await?;
        (hash, current) = (Sha256::new(), 0);
    }
    if current < total {
        let answer = endpoint.client.blob(repository, digest, current).await?;
        if answer.status() != StatusCode::PARTIAL_CONTENT && current > 0 {
            file.set_len(0).await?;
            file.seek(SeekFrom::Start(0)).await?;
            (hash, current) = (Sha256::new(), 0);
        }
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(Refusal::from)?;
            current += chunk.len() as u64;
            if current > total {
                break;
            }
            hash.update(&chunk);
            file.write_all(&chunk).await?;
            report(PullProgress::Layer { digest: digest.clone(), current, total });
        }
        file.flush().await?;
    }
    let actual = format!("sha256:{}", hex(&hash.finalize()));
    if actual != *digest {
        drop(file);
        tokio::fs::remove_file(partial).await?;
        return Err(FetchError::Wrong(format!("expected {digest} of {total} bytes, got {actual} of {current}")));
    }
    Ok(())
}

/// The part that an earlier try has left, hashed again.
async fn resume(partial: &Path) -> io::Result<(File, Sha256, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial).await?;
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok((file, hash, length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}
