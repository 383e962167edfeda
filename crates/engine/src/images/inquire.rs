//! What registries are asked besides images: whether they take a password, what they have under a name, and searches.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::Value;

use crate::engine::{Error, Result};
use crate::images::distribution::{Client, Refusal, root_cause};
use crate::images::platform::Platform;
use crate::images::reference::{DEFAULT_REGISTRY, Reference};
use crate::images::registry::{self, Direction, Endpoint, Failures};
use crate::images::{Images, blocking, digest_of, failed};
use crate::spec::Auth;

/// Who searches for Docker Hub.
const INDEX: &str = "index.docker.io";

/// Why somebody isn't let in.
#[derive(Debug)]
pub enum LoginError {
    /// The registry says that it is the wrong password.
    Unauthorized(String),
    Failed(Error),
}

impl From<Error> for LoginError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a registry has under a name.
#[derive(Clone, Debug)]
pub struct RemoteManifest {
    pub media_type: String,
    pub digest: String,
    pub bytes: usize,
    pub platforms: Vec<Platform>,
}

/// A file on its way, and how long it is; 0 when nobody knows.
pub struct Download {
    pub total: u64,
    pub pieces: BoxStream<'static, io::Result<Bytes>>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Images {
    /// Asks a registry (`host:port`) whether it lets one in with these credentials.
    ///
    /// # Errors
    /// When it doesn't, or can't be asked, in Docker's words.
    pub async fn login(&self, registry: &str, auth: Auth) -> std::result::Result<(), LoginError> {
        let mut last = None;
        for endpoint in self.own_endpoints(registry, auth).await? {
            let work = async move {
                let url = endpoint.client.url_of_api();
                Ok((endpoint.client.ask("", |http| http.get(&url)).await, url))
            };
            let (answer, url) = self.dialing(work).await?;
            let message = match answer {
                Ok(_) => return Ok(()),
                Err(Refusal::Token { status, .. }) if status == reqwest::StatusCode::UNAUTHORIZED => {
                    let message = format!("Get {url:?}: unauthorized: incorrect username or password");
                    return Err(LoginError::Unauthorized(message));
                }
                Err(Refusal::Answer { code, .. }) if code == "UNAUTHORIZED" => {
                    format!("login attempt to {url} failed with status: 401 Unauthorized")
                }
                Err(Refusal::Status(status)) => format!("login attempt to {url} failed with status: {status}"),
                Err(other) => format!("Get {url:?}: {other}"),
            };
            last = Some(message);
        }
        Err(LoginError::Failed(failed("login")(last.unwrap_or_default())))
    }

    /// What is behind a name, without fetching it; mirrors first.
    ///
    /// # Errors
    /// As [`Images::pull`] has them.
    pub async fn inspect_remote(&self, reference: Reference, auth: Auth) -> Result<RemoteManifest> {
        let (routes, asked) = (self.shared.routes.clone(), reference.clone());
        let endpoints = blocking(move || routes.endpoints(&asked, &auth)).await?;
        self.dialing(async move {
            let mut failures = Failures::default();
            for endpoint in endpoints {
                match inspect(&endpoint, &reference).await {
                    Ok(found) => return Ok(found),
                    Err(error) => failures.add(&endpoint.host, error),
                }
            }
            Err(failures.told())
        })
        .await
    }

    /// What a registry that can be searched finds, as it tells it (`results`, each with `name`, `description` and so on).
    ///
    /// # Errors
    /// When it can't be searched: hardly any but Docker Hub can.
    pub async fn search(&self, term: &str, limit: usize, auth: Auth) -> Result<Vec<Value>> {
        if term.contains("://") {
            let words = format!("invalid repository name: repository name ({term}) should not have a scheme");
            return Err(Error::Invalid(words));
        }
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (registry, term) = match term.split_once('/') {
            Some((first, rest)) if is_host(first) && first != DEFAULT_REGISTRY => (first, rest),
            Some((DEFAULT_REGISTRY, rest)) => (INDEX, rest),
            _ => (INDEX, term),
        };
        let term = if registry == INDEX { term.strip_prefix("library/").unwrap_or(term) } else { term };
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("q", term)
            .append_pair("n", &limit.to_string())
            .finish();
        let mut last = None;
        for endpoint in self.own_endpoints(registry, auth).await? {
            let url = format!("{}v1/search?{query}", endpoint.client.url_of_api().trim_end_matches("v2/"));
            match self.dialing(async move { Ok(search(&endpoint.client, &url).await) }).await? {
                Ok(results) => return Ok(results),
                Err(Refusal::Answer { message, .. }) => last = Some(message),
                Err(Refusal::Status(status)) => last = Some(format!("Unexpected status code {}", status.as_u16())),
                Err(other) => last = last.or(Some(other.to_string())),
            }
        }
        Err(failed("search")(last.unwrap_or_default()))
    }

    /// What is behind a URL that is no registry's.
    ///
    /// # Errors
    /// When the server can't be reached, or doesn't have it.
    pub async fn download(&self, url: &str) -> Result<Download> {
        let parsed = url::Url::parse(url).map_err(|error| Error::Invalid(format!("parse {url:?}: {error}")))?;
        let (routes, asked) = (self.shared.routes.clone(), parsed.clone());
        let endpoint = blocking(move || routes.server(&asked)).await?;
        let asking = async move { Ok(endpoint.client.ask("", |http| http.get(parsed.clone())).await) };
        let answer = self.dialing(asking).await?.map_err(|refusal| {
            failed("download")(match refusal {
                Refusal::Status(status) => format!("failed to GET {url} with status {status}"),
                other => format!("Get {url:?}: {other}"),
            })
        })?;
        let total = answer.content_length().unwrap_or_default();
        let pieces = answer.bytes_stream().map_err(|error| io::Error::other(root_cause(&error)));
        Ok(Download { total, pieces: pieces.boxed() })
    }

    async fn own_endpoints(&self, registry: &str, auth: Auth) -> Result<Vec<Endpoint>> {
        let (routes, registry) = (self.shared.routes.clone(), registry.to_owned());
        blocking(move || routes.own_endpoints(&registry, &auth, Direction::Pull)).await
    }
}

async fn search(client: &Client, url: &str) -> std::result::Result<Vec<Value>, Refusal> {
    #[derive(Deserialize)]
    struct Found {
        results: Vec<Value>,
    }
    let answer = client.ask("", |http| http.get(url).header("x-docker-token", "true")).await?;
    let found: Found = client.json(answer).await?;
    Ok(found.results)
}

async fn inspect(endpoint: &Endpoint, reference: &Reference) -> Result<RemoteManifest> {
    let explained = |refusal| registry::explain(reference, &endpoint.host, refusal);
    let unreadable = |error: serde_json::Error| failed("reading the manifest")(error);
    let asked = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let bytes = endpoint.client.manifest(&reference.repository, asked).await.map_err(explained)?;
    let manifest: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let is_index = manifest.get("manifests").is_some();
    // OCI's manifests need not say what they are.
    let kind = if is_index { "index" } else { "manifest" };
    let media_type = manifest["mediaType"].as_str().map(str::to_owned);
    let platforms: Vec<Written> = match (manifest["manifests"].as_array(), manifest["config"]["digest"].as_str()) {
        (Some(entries), _) => entries.iter().filter_map(|e| Written::deserialize(&e["platform"]).ok()).collect(),
        (None, Some(config)) => {
            let answer = endpoint.client.blob(&reference.repository, config, 0).await.map_err(explained)?;
            vec![endpoint.client.json(answer).await.map_err(explained)?]
        }
        (None, None) => Vec::new(),
    };
    let platforms = platforms.into_iter().filter(|written| !written.os.is_empty() || !written.architecture.is_empty());
    Ok(RemoteManifest {
        media_type: media_type.unwrap_or_else(|| format!("application/vnd.oci.image.{kind}.v1+json")),
        digest: digest_of(&bytes),
        bytes: bytes.len(),
        platforms: platforms
            .map(|Written { os, architecture, variant }| Platform { os, architecture, variant })
            .collect(),
    })
}
