//! The engine itself: the door through which kubelets and the Docker API make and watch sandboxes and containers.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::images::Images;
use crate::spec::*;

pub type Result<T> = std::result::Result<T, Error>;

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

/// A running exec or attach: its streams and its end. Dropping it detaches; it never stops the process.
pub struct Session {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// All output when there is a terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// New terminal sizes.
    pub resize: mpsc::Sender<Size>,
    /// The exit code; for an attach, when the container ends.
    pub exit: oneshot::Receiver<i32>,
}

pub struct Engine;

impl Engine {
    /// Opens the store, lays down what a crash left half done, and takes running sandboxes and containers back.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let _ = config;
        todo!()
    }
    pub fn images(&self) -> &Images {
        todo!()
    }
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        let _ = spec;
        todo!()
    }
    pub fn sandboxes(&self) -> Vec<SandboxStatus> {
        todo!()
    }
    /// Kills what still runs in it, ends the shim, removes its containers, namespaces and cgroups. Idempotent.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }
    /// Unpacks nothing: layers are shared. Makes the writable layer and the OCI configuration.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<()> {
        let _ = spec;
        todo!()
    }
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }
    /// The stop signal, then SIGKILL after `grace`; returns once it has exited.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let _ = (id, grace);
        todo!()
    }
    pub async fn kill_container(&self, id: &str, signal: i32) -> Result<()> {
        let _ = (id, signal);
        todo!()
    }
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }
    pub fn container(&self, id: &str) -> Option<ContainerStatus> {
        let _ = id;
        todo!()
    }
    pub fn containers(&self) -> Vec<ContainerStatus> {
        todo!()
    }
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Session> {
        let _ = (id, spec);
        todo!()
    }
    /// The container's own streams, from now on; with `stdin` when it has one.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Session> {
        let _ = (id, stdin);
        todo!()
    }
    /// Reads either format. With `follow` the stream ends when the container has and all is read.
    pub fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        let _ = (id, options);
        todo!()
    }
    pub async fn stats(&self, id: &str) -> Result<Stats> {
        let _ = id;
        todo!()
    }
    /// A receiver that lags is told so and lists again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        todo!()
    }
}
