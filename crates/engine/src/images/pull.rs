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
use crate::images::reference::Reference;
use crate::images::registry::{self, Endpoint, Failures};
use crate::images::unpack::hex;
use crate::images::{PullProgress, Shared, blocking, failed};
use crate::spec::Auth;

/// Layers fetched at once; Docker's default.
const CONCURRENT: usize = 3;
pub type Report = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// Tries each endpoint in turn.
pub async fn pull(store: Arc<Shared>, reference: Reference, auth: Auth, report: Report) -> Result<String> {
    let endpoints = {
        let (store, reference) = (store.clone(), reference.clone());
        blocking(move || store.routes.endpoints(&reference, &auth)).await?
    };
    let mut failures = Failures::default();
    for endpoint in endpoints {
        match pull_from(&store, &endpoint, &reference, &report).await {
            Ok(id) => return Ok(id),
            Err(error) => {
                tracing::info!(image = %reference, host = endpoint.host, %error, "can't pull from here");
                failures.add(&endpoint.host, error);
            }
        }
    }
    Err(failures.told())
}

async fn pull_from(store: &Arc<Shared>, endpoint: &Endpoint, reference: &Reference, report: &Report) -> Result<String> {
    let repository = reference.repository.as_str();
    let asked = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let get = async |name: &str| {
        let bytes = endpoint.client.manifest(repository, name).await;
        bytes.map_err(|refusal| registry::explain(reference, &endpoint.host, refusal))
    };
    let bytes = get(asked).await?;
    let digest = digest_of(&bytes);
    if reference.digest.as_ref().is_some_and(|asked| *asked != digest) {
        return Err(failed("verifying the manifest")(format!("its digest is {digest}")));
    }
    let manifest = match parse_manifest(&bytes)? {
        Manifest::Image(manifest) => manifest,
        Manifest::Index(index) => {
            let chosen = for_this_platform(&index, reference)?;
            let bytes = get(&chosen).await?;
            if digest_of(&bytes) != chosen {
                return Err(failed("verifying the manifest")(format!("it isn't {chosen}")));
            }
            match parse_manifest(&bytes)? {
                Manifest::Image(manifest) => manifest,
                Manifest::Index(_) => return Err(failed("reading the manifest")("an index in an index")),
            }
        }
    };
    let config = manifest.config();
    if config.size() > MOST_DOCUMENT_BYTES {
        return Err(failed("reading the configuration")(format!("{} bytes are too many", config.size())));
    }
    fetch(store, endpoint, repository, config, &|_| {}).await.map_err(explained(reference, endpoint))?;
    let id = config.digest().to_string();
    let layers = pair_layers(&manifest, &store.configuration(&id)?)?;

    futures::stream::iter(manifest.layers().iter().zip(&layers).map(Ok))
        .try_for_each_concurrent(CONCURRENT, |(descriptor, layer)| async {
            if store.has_layer(&layer.diff_id) {
                report(PullProgress::Done { digest: layer.blob.clone() });
                return Ok(());
            }
            fetch(store, endpoint, repository, descriptor, report.as_ref())
                .await
                .map_err(explained(reference, endpoint))?;
            report(PullProgress::Extracting { digest: layer.blob.clone() });
            store.unpack_layer(layer.clone()).await?;
            report(PullProgress::Done { digest: layer.blob.clone() });
            Ok::<_, Error>(())
        })
        .await?;

    let record = Record {
        id: id.clone(),
        layers,
        tags: reference.tagged().into_iter().collect(),
        digests: [format!("{}@{digest}", reference.name())].into(),
        local: false,
        created: SystemTime::now(),
    };
    store.record(record).await?;
    Ok(id)
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

fn for_this_platform(index: &ImageIndex, reference: &Reference) -> Result<String> {
    let architecture = oci_spec::image::Arch::default();
    let fits = index.manifests().iter().find(|entry| {
        let platform = entry.platform().as_ref();
        platform.is_some_and(|p| p.os().to_string() == "linux" && *p.architecture() == architecture)
    });
    // Docker's words (`no matching manifest for linux/amd64 in the manifest list entries`).
    fits.map(|entry| entry.digest().to_string()).ok_or_else(|| {
        Error::NotFound(format!(
            "{}: no matching manifest for linux/{architecture} in the manifest list entries",
            reference.familiar_name()
        ))
    })
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
    };
    Ok(layers.iter().zip(diff_ids).map(pair).collect())
}

fn explained<'a>(reference: &'a Reference, endpoint: &'a Endpoint) -> impl Fn(FetchError) -> Error + 'a {
    move |error| match error {
        FetchError::Registry(refusal) => registry::explain(reference, &endpoint.host, refusal),
        FetchError::Disk(error) => failed("storing a layer")(disk(error)),
        FetchError::Wrong(message) => failed("verifying a layer")(message),
    }
}

/// A full disk in words that say what to do.
fn disk(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "no space left on device: remove images or enlarge the disk of the data directory".into()
        }
        _ => error.to_string(),
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
    let total = descriptor.size();
    let (mut file, mut hash, mut current) = resume(&partial).await?;
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
        tokio::fs::remove_file(&partial).await?;
        return Err(FetchError::Wrong(format!("expected {digest} of {total} bytes, got {actual} of {current}")));
    }
    tokio::fs::rename(&partial, &path).await?;
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
