//! What the kubelet asks of whatever runs its containers: a trait shaped like CRI, and its plain values.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::broadcast;

pub use tug_engine::Session;
pub use tug_engine::images::reference::Reference;
pub use tug_engine::spec::{
    Auth, ContainerSpec, ContainerStatus, Event, ExecSpec, Identity, ImageGroups, Limits, Log, LogFormat, LogLine,
    LogOptions, MaskedPaths, Mount, SandboxSpec, SandboxStatus, Seccomp, Size, State, Stats, Stream,
};
pub use tug_engine::usage::disk_bytes;
pub use tug_network::pods::{HostPort, Protocol};

pub type Result<T> = std::result::Result<T, RuntimeError>;

/// Why the runtime couldn't do it, in words for the pod's events.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Failed(String),
}

/// A pod's sandbox and its place in the network.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub status: SandboxStatus,
    /// `None` in the node's own network.
    pub address: Option<IpAddr>,
}

/// An image of this node, as the kubelet needs to know it.
#[derive(Clone, Debug, Default)]
pub struct ImageInfo {
    /// `sha256:…` of its configuration.
    pub id: String,
    pub names: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`; empty for an image that never was in a registry.
    pub digests: Vec<String>,
    pub size_bytes: u64,
    /// Its last origin is this machine: load, import, commit, build.
    pub local: bool,
    /// As in its configuration: `user`, `uid:gid` …; empty for root.
    pub user: String,
    pub stop_signal: Option<String>,
}

/// How a one-off command in a container ended.
#[derive(Clone, Debug)]
pub struct ExecOutput {
    pub exit_code: i32,
    /// Each cut at 10 KiB.
    pub stdout: String,
    pub stderr: String,
}

impl ExecOutput {
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs pods. Every call is safe to repeat.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version as in `containerRuntimeVersion`: `tug://0.1.0`.
    fn version(&self) -> String;
    /// Where a container's root directory would be: its file system's free space is the node's disk pressure.
    fn image_dir(&self) -> PathBuf;

    /// Makes the sandbox and connects it; when it is there already and lives, says so without changing it.
    async fn run_sandbox(&self, spec: SandboxSpec, ports: Vec<HostPort>) -> Result<Sandbox>;
    fn sandboxes(&self) -> Vec<SandboxStatus>;
    /// Kills what still runs in it and lets go of all that it holds; its containers' states and logs stay.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Kills what still runs in it, disconnects and removes it with its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;

    /// Sets limits of a control group that holds sandboxes', such as `kubepods/burstable`.
    async fn limit_group(&self, group: &str, limits: Limits) -> Result<()>;

    async fn create_container(&self, spec: ContainerSpec) -> Result<()>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// The stop signal, SIGKILL after `grace`; returns once it has exited.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// SIGKILL; returns at once.
    async fn kill_container(&self, id: &str) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Those of one sandbox, running and ended.
    fn containers(&self, sandbox: &str) -> Vec<ContainerStatus>;

    fn image(&self, reference: &str) -> Option<ImageInfo>;
    fn images(&self) -> Vec<ImageInfo>;
    async fn pull(&self, reference: &str, auth: Auth) -> Result<ImageInfo>;

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Session>;
    /// Runs `command` to its end and collects what it says.
    async fn exec_sync(&self, id: &str, command: Vec<String>) -> Result<ExecOutput>;
    async fn attach(&self, id: &str, stdin: bool) -> Result<Session>;
    fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>>;
    async fn stats(&self, id: &str) -> Result<Stats>;
    /// Bytes of the disk that the container's own changes to its image take.
    async fn writable_bytes(&self, id: &str) -> Result<u64>;
    /// A receiver that lags is told so and lists again.
    fn events(&self) -> broadcast::Receiver<Event>;
}
