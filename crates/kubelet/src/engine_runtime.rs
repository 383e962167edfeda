//! The runtime trait over Tug's own engine and pod network.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::broadcast;
use tug_engine::{Engine, Image};
use tug_network::pods::{Attachment, PodNetwork};

use crate::runtime::{
    Auth, ContainerSpec, ContainerStatus, Event, ExecOutput, ExecSpec, HostPort, ImageInfo, Limits, LogLine,
    LogOptions, Result, Runtime, RuntimeError, Sandbox, SandboxSpec, SandboxStatus, Session, Stats,
};

/// What a probe's or hook's command may say before the rest is dropped.
const OUTPUT_BYTES: u64 = 10 * 1024;

/// Connects sandboxes: the pod network as this adapter needs it.
#[async_trait]
pub trait SandboxNetwork: Send + Sync + 'static {
    /// Idempotent: the same attachment gets the same address.
    async fn attach(&self, attachment: &Attachment) -> std::result::Result<IpAddr, String>;
    /// Idempotent.
    async fn detach(&self, id: &str) -> std::result::Result<(), String>;
}

#[async_trait]
impl SandboxNetwork for PodNetwork {
    async fn attach(&self, attachment: &Attachment) -> std::result::Result<IpAddr, String> {
        let attached = PodNetwork::attach(self, attachment).await.map_err(|error| error.to_string())?;
        Ok(attached.address.into())
    }

    async fn detach(&self, id: &str) -> std::result::Result<(), String> {
        PodNetwork::detach(self, id).await.map_err(|error| error.to_string())
    }
}

pub struct EngineRuntime {
    engine: Arc<Engine>,
    network: Arc<dyn SandboxNetwork>,
    data_dir: PathBuf,
    version: String,
}

impl EngineRuntime {
    /// `data_dir` is the engine's; `version` is Tug's own.
    pub fn new(engine: Arc<Engine>, network: Arc<dyn SandboxNetwork>, data_dir: PathBuf, version: &str) -> Self {
        Self { engine, network, data_dir, version: version.to_owned() }
    }
}

#[async_trait]
impl Runtime for EngineRuntime {
    fn version(&self) -> String {
        format!("tug://{}", self.version)
    }

    fn image_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    async fn run_sandbox(&self, spec: SandboxSpec, ports: Vec<HostPort>) -> Result<Sandbox> {
        let known = self.engine.sandboxes().into_iter().find(|sandbox| sandbox.id == spec.id && sandbox.ready);
        let status = match known {
            Some(status) => status,
            None => self.engine.create_sandbox(spec).await?,
        };
        let Some(netns) = status.netns.clone() else {
            return Ok(Sandbox { status, address: None });
        };
        let attachment = Attachment { id: status.id.clone(), netns, ports };
        let address = self
            .network
            .attach(&attachment)
            .await
            .map_err(|message| RuntimeError::Failed(format!("failed to set up sandbox network: {message}")))?;
        Ok(Sandbox { status, address: Some(address) })
    }

    fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.engine.sandboxes()
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.network.detach(id).await.map_err(RuntimeError::Failed)?;
        ignore_missing(self.engine.stop_sandbox(id).await)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.network.detach(id).await.map_err(RuntimeError::Failed)?;
        ignore_missing(self.engine.remove_sandbox(id).await)
    }

    async fn limit_group(&self, group: &str, limits: Limits) -> Result<()> {
        Ok(self.engine.limit_group(group, limits).await?)
    }

    async fn create_container(&self, mut spec: ContainerSpec) -> Result<()> {
        // Kubernetes: a command replaces entry point and arguments, arguments alone keep the image's entry point.
        if spec.entrypoint.is_some() {
            spec.args.get_or_insert_default();
        } else if spec.args.is_some() {
            let image = self.engine.images().resolve(&spec.image);
            let entrypoint = image.and_then(|image| image.config.config().as_ref()?.entrypoint().clone());
            spec.entrypoint = Some(entrypoint.unwrap_or_default());
        }
        Ok(self.engine.create_container(spec).await?)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        Ok(self.engine.start_container(id).await?)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        ignore_missing(self.engine.stop_container(id, grace).await)
    }

    async fn kill_container(&self, id: &str) -> Result<()> {
        ignore_missing(self.engine.kill_container(id, nix::sys::signal::Signal::SIGKILL as i32).await)
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        ignore_missing(self.engine.remove_container(id).await)
    }

    fn containers(&self, sandbox: &str) -> Vec<ContainerStatus> {
        self.engine.containers_in(sandbox)
    }

    fn image(&self, reference: &str) -> Option<ImageInfo> {
        self.engine.images().resolve(reference).map(info)
    }

    fn images(&self) -> Vec<ImageInfo> {
        self.engine.images().list().into_iter().map(info).collect()
    }

    async fn pull(&self, reference: &str, auth: Auth) -> Result<ImageInfo> {
        Ok(info(self.engine.images().pull(reference, auth, |_| {}).await?))
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Session> {
        Ok(self.engine.exec(id, spec).await?)
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>) -> Result<ExecOutput> {
        let session = self.engine.exec(id, ExecSpec { command, ..ExecSpec::default() }).await?;
        let (out, err) = tokio::join!(read_some(session.stdout), read_some(session.stderr));
        let exit_code = session.exit.await.map_err(|_| RuntimeError::Failed("the command's end was lost".into()))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(ExecOutput { exit_code, stdout: text(out), stderr: text(err) })
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Session> {
        Ok(self.engine.attach(id, stdin).await?)
    }

    fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        Ok(self.engine.logs(id, options)?.map_err(RuntimeError::from).boxed())
    }

    async fn stats(&self, id: &str) -> Result<Stats> {
        Ok(self.engine.stats(id).await?)
    }

    async fn writable_bytes(&self, id: &str) -> Result<u64> {
        Ok(self.engine.writable_bytes(id).await?)
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.engine.events()
    }
}

impl From<tug_engine::Error> for RuntimeError {
    fn from(error: tug_engine::Error) -> Self {
        match error {
            tug_engine::Error::NotFound(message) => Self::NotFound(message),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Removing what is gone is done.
fn ignore_missing(result: tug_engine::Result<()>) -> Result<()> {
    match result.map_err(RuntimeError::from) {
        Err(RuntimeError::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// Keeps the first bytes and drains the rest, so that the command never blocks on a full pipe.
async fn read_some(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let read = (&mut stream).take(OUTPUT_BYTES).read_to_end(&mut kept).await;
    if read.is_ok() {
        // An error here only means that there is nothing more to drain.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

fn info(image: Image) -> ImageInfo {
    let config = image.config.config().as_ref();
    ImageInfo {
        user: config.and_then(|config| config.user().clone()).unwrap_or_default(),
        stop_signal: config.and_then(|config| config.stop_signal().clone()),
        id: image.id,
        names: image.tags,
        digests: image.digests,
        size_bytes: image.size_bytes,
        local: image.local,
    }
}
