//! Documents on disk: a file each, replaced in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::networks::document::Document;
use crate::networks::member::Member;
use crate::reply::Failure;

#[derive(Clone)]
pub struct Keep {
    networks: PathBuf,
    members: PathBuf,
}

/// What must be on disk before it is acknowledged, and what only holds while the machine runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Last {
    BeyondTheMachine,
    AsLongAsIt,
}

impl Keep {
    pub fn new(dir: &Path) -> Self {
        Self { networks: dir.join("networks"), members: dir.join("containers") }
    }

    pub async fn read(&self) -> Result<(Vec<Document>, Vec<Member>), Failure> {
        let (networks, members) = (self.networks.clone(), self.members.clone());
        blocking(move || Ok((read_all(&networks)?, read_all(&members)?))).await
    }

    pub async fn network(&self, document: &Document) -> Result<(), Failure> {
        let (path, bytes) = (file(&self.networks, &document.id), encode(document));
        blocking(move || replace(&path, &bytes, Last::BeyondTheMachine)).await
    }

    pub async fn member(&self, member: &Member, last: Last) -> Result<(), Failure> {
        let (path, bytes) = (file(&self.members, &member.request.id), encode(member));
        blocking(move || replace(&path, &bytes, last)).await
    }

    pub async fn remove_network(&self, id: &str) -> Result<(), Failure> {
        let path = file(&self.networks, id);
        blocking(move || remove(&path)).await
    }

    pub async fn remove_member(&self, id: &str) -> Result<(), Failure> {
        let path = file(&self.members, id);
        blocking(move || remove(&path)).await
    }
}

fn file(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have only string keys")
}

/// One that can't be read is left out with a warning: it mustn't keep all others from use.
fn read_all<T: DeserializeOwned>(dir: &Path) -> io::Result<Vec<T>> {
    fs::create_dir_all(dir)?;
    let mut documents = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            // Half a replacement.
            remove(&path)?;
            continue;
        }
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(document) => documents.push(document),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a network document can't be read"),
        }
    }
    Ok(documents)
}

fn replace(path: &Path, bytes: &[u8], last: Last) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    if last == Last::BeyondTheMachine {
        file.sync_data()?;
    }
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent().filter(|_| last == Last::BeyondTheMachine) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done);
    done.map_err(|error| Failure::new(500, format!("keeping networks: {error}")))
}
