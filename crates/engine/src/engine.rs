//! The engine itself: the door through which kubelets and the Docker API make and watch sandboxes and containers.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::filter::Filters;
use crate::images::Images;
use crate::progress::Container;
use crate::record;
use crate::rootfs;
use crate::sandboxes::Sandbox;
use crate::spec::*;

pub type Result<T> = std::result::Result<T, Error>;

/// Events kept for a receiver that is slow; past it the receiver is told that it lagged.
const EVENTS: usize = 1024;

/// What went wrong, as a person should read it. Not-found and conflict are told apart because callers act on them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{step}: {message}")]
    Failed { step: &'static str, message: String },
}

/// A running exec or attach: its streams and its end. Dropping an attach only detaches. Dropping `exit` of an exec that
/// has not ended kills it and what it started in its session, unless it is detached.
pub struct Session {
    /// Of an exec: its process, as the engine sees it.
    pub pid: Option<u32>,
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// All output when there is a terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// New terminal sizes.
    pub resize: mpsc::Sender<Size>,
    /// The exit code; for an attach, when the container ends. Output may still come, from what the command left behind.
    pub exit: oneshot::Receiver<i32>,
}

pub struct Engine {
    pub(crate) config: Config,
    pub(crate) images: Images,
    pub(crate) filters: Filters,
    pub(crate) sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    pub(crate) containers: Mutex<HashMap<String, Arc<Container>>>,
    pub(crate) events: broadcast::Sender<Event>,
    /// For the tasks that watch sandboxes: they end with the engine instead of keeping it alive.
    pub(crate) this: Weak<Engine>,
}

impl Engine {
    /// Opens the store, lays down what a crash left half done, and takes running sandboxes and containers back.
    ///
    /// # Errors
    /// When the data or run directory can't be used. What is wrong with one container is kept with that container.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let (images, sandboxes, containers) = {
            let config = config.clone();
            blocking(move || recover(&config)).await?
        };
        let engine = Arc::new_cyclic(|this| Engine {
            filters: Filters::new(config.run_dir.join("filters")),
            config,
            images,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            this: this.clone(),
        });
        for container in containers {
            let status = container.now();
            engine.images.hold(&status.id, &status.image);
            engine.containers.lock().insert(status.id, Arc::new(container));
        }
        let opened = engine.clone();
        blocking(move || opened.images.drop_unheld()).await?;
        futures::future::join_all(sandboxes.into_iter().map(|status| engine.adopt(status))).await;
        engine.settle_orphans().await;
        engine.let_go_of_roots().await?;
        Ok(engine)
    }

    pub fn images(&self) -> &Images {
        &self.images
    }

    /// A receiver that lags is told so and lists again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn emit(&self, event: Event) {
        // Fails only when nobody listens.
        let _ = self.events.send(event);
    }

    /// A container's directory, which goes with it. Callers may keep files of their own in it.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.config.data_dir.join("containers").join(id)
    }

    pub(crate) fn sandbox_record(&self, id: &str) -> PathBuf {
        self.config.data_dir.join("sandboxes").join(format!("{id}.json"))
    }
}

type Recovered = (Images, Vec<SandboxStatus>, Vec<Container>);

/// Reads what is on disk. A container's directory without a record is one whose making a crash cut short: it goes.
fn recover(config: &Config) -> Result<Recovered> {
    let failed = |step: &'static str| move |err: std::io::Error| Error::Failed { step, message: err.to_string() };
    let containers_dir = config.data_dir.join("containers");
    let sandboxes_dir = config.data_dir.join("sandboxes");
    let run = ["sandboxes", "ns", "filters"].map(|name| config.run_dir.join(name));
    for dir in [&containers_dir, &sandboxes_dir].into_iter().chain(&run) {
        fs::create_dir_all(dir).map_err(failed("make the engine's directories"))?;
    }
    let mut containers = Vec::new();
    for entry in fs::read_dir(&containers_dir).map_err(failed("read containers"))?.flatten() {
        match Container::recover(&entry.path()) {
            Some(container) => containers.push(container),
            None => rootfs::discard(&entry.path())?,
        }
    }
    let mut sandboxes = Vec::new();
    for entry in fs::read_dir(&sandboxes_dir).map_err(failed("read sandboxes"))?.flatten() {
        let whole = entry.path().extension().is_some_and(|extension| extension == "json");
        match record::read::<SandboxStatus>(&entry.path()).filter(|_| whole) {
            Some(status) => sandboxes.push(status),
            // Cut off: by a power failure, which no sandbox survives, or before there was anything of it but this.
            None => fs::remove_file(entry.path()).map_err(failed("remove a sandbox's record"))?,
        }
    }
    Ok((Images::open(config)?, sandboxes, containers))
}

/// Runs file and mount work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let panicked = |err: tokio::task::JoinError| Error::Failed { step: "work", message: err.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

/// A descriptor whose readiness the runtime watches.
#[allow(deprecated, reason = "its successor is unsafe for the sake of types that may lend out a closed descriptor")]
pub(crate) fn watched(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
