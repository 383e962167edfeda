//! The distribution protocol as far as a push needs it: blobs that are there, mounted or sent in one piece, and manifests.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode};
use tokio_util::io::ReaderStream;

use crate::images::distribution::{Client, Refusal};

type Result<T> = std::result::Result<T, Refusal>;

/// For an answer to anything short.
const PATIENCE: Duration = Duration::from_secs(60);
const PIECE_BYTES: usize = 256 << 10;

/// How the sending of a blob begins.
pub enum Upload {
    /// The registry took it from another repository.
    Mounted,
    /// Where to send it.
    To(String),
}

impl Client {
    /// Whether anybody answers, whatever they say.
    pub async fn reach(&self) -> Result<()> {
        let answer = self.ask("", |http| http.get(self.url_of_api()).timeout(PATIENCE)).await;
        match answer {
            Err(Refusal::Transport(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool> {
        let url = self.url(repository, &format!("blobs/{digest}"));
        match self.ask(repository, |http| http.head(&url).timeout(PATIENCE)).await {
            Ok(_) => Ok(true),
            Err(Refusal::Status(StatusCode::NOT_FOUND)) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// `from` is a repository of the same registry that has the blob.
    pub async fn begin_upload(&self, repository: &str, digest: &str, from: Option<&str>) -> Result<Upload> {
        // Names and digests have nothing in them that a query would have to escape.
        let mount = from.map(|from| format!("?mount={digest}&from={from}")).unwrap_or_default();
        let url = self.url(repository, "blobs/uploads/") + &mount;
        let begin = |http: &reqwest::Client| http.post(&url).header(CONTENT_LENGTH, 0).timeout(PATIENCE);
        let answer = self.ask(repository, begin).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Upload::Mounted);
        }
        let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| answer.url().join(place).ok());
        let mut place =
            place.ok_or_else(|| Refusal::Senseless("the registry doesn't say where to send a blob".into()))?;
        place.query_pairs_mut().append_pair("digest", digest);
        Ok(Upload::To(place.into()))
    }

    /// Sends `bytes` bytes of a file that nobody else reads; `sent` is told how many more have gone.
    pub async fn send_blob(
        &self,
        repository: &str,
        place: &str,
        file: Arc<dyn Fn() -> io::Result<File> + Send + Sync>,
        bytes: u64,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<()> {
        let send = |http: &reqwest::Client| {
            let (file, sent) = (file.clone(), sent.clone());
            // Opened anew when the registry asks for credentials and it has to be sent again.
            let pieces = futures::stream::once(async move { file().map(tokio::fs::File::from_std) });
            let pieces = pieces.map_ok(|file| ReaderStream::with_capacity(file, PIECE_BYTES)).try_flatten();
            let pieces = pieces.inspect_ok(move |piece| sent(piece.len() as u64));
            let request = http.put(place).header(CONTENT_TYPE, "application/octet-stream");
            request.header(CONTENT_LENGTH, bytes).body(Body::wrap_stream(pieces))
        };
        self.ask(repository, send).await.map(drop)
    }

    pub async fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> Result<Response> {
        let url = self.url(repository, &format!("manifests/{tag}"));
        let put =
            |http: &reqwest::Client| http.put(&url).header(CONTENT_TYPE, kind).body(bytes.to_vec()).timeout(PATIENCE);
        self.ask(repository, put).await
    }
}
