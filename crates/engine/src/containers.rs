//! Containers: made, started, stopped, removed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use oci_spec::image::ImageConfiguration;
use tug_shim::cgroup::{Layout, layout};
use tug_shim::log::{Format, LogConfig};
use tug_shim::protocol::{Reply, Request, Start};

use crate::cgroup;
use crate::engine::{Engine, Error, Result, blocking};
use crate::progress::{Container, RECORD, ended};
use crate::record;
use crate::rootfs::{self, Rootfs};
use crate::runtime_spec::{self, Surroundings};
use crate::shim_client::{call, sandbox_dir};
use crate::signals;
use crate::spec::*;
use crate::usage::disk_bytes;
use crate::users;

/// Docker's code for a container that could not be started.
const EXIT_NOT_STARTED: i32 = 128;
const LOG_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 5;
const ID_BYTES: usize = 64;
const ANNEX: &str = "annex.json";
/// What a running container is confined to, for its execs.
pub(crate) const CONFINEMENT: &str = "confinement.json";

/// How long a process may take to die of SIGKILL; Docker's.
const KILL: Duration = Duration::from_secs(10);

impl Engine {
    /// Unpacks nothing: layers are shared. Makes the writable layer. A container whose sandbox bears its own id is made
    /// before its sandbox, which has to be there when it starts.
    ///
    /// # Errors
    /// `Conflict` when the id is taken, `NotFound` without its sandbox or image.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<()> {
        self.create_container_with(spec, None).await
    }

    /// The same with a document of the caller's own, which is there whenever the container is.
    ///
    /// # Errors
    /// As [`Engine::create_container`].
    pub async fn create_container_with(&self, spec: ContainerSpec, annex: Option<Vec<u8>>) -> Result<()> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let id = spec.id.clone();
        if id.is_empty() || id.len() > ID_BYTES || id.starts_with('.') || !id.bytes().all(valid) {
            return Err(Error::Invalid(format!("invalid container id \"{id}\"")));
        }
        if !is_lone(&spec) {
            self.sandbox(&spec.sandbox)?;
        }
        self.image_config(&spec.image)?;
        if let Some(signal) = &spec.stop_signal {
            signals::number(signal)?;
        }
        let status = ContainerStatus {
            id: id.clone(),
            sandbox: spec.sandbox.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            state: State::Created,
            pid: None,
            created: SystemTime::now(),
            started: None,
            finished: None,
            exit_code: None,
            oom_killed: false,
            error: None,
            user: None,
            spec,
        };
        {
            let mut containers = self.containers.lock();
            if containers.contains_key(&id) {
                return Err(Error::Conflict(format!("container {id} exists already")));
            }
            containers.insert(id.clone(), Arc::new(Container::new(status.clone())));
        }
        self.images.hold(&id, &status.image);
        let dir = self.container_dir(&id);
        let made = blocking(move || {
            let failed = |err: std::io::Error| Error::Failed { step: "make container", message: err.to_string() };
            Rootfs::new(dir.clone()).create().map_err(failed)?;
            if let Some(annex) = annex {
                record::replace(&dir.join(ANNEX), &annex)?;
            }
            record::write_synced(&dir.join(RECORD), &status)
        });
        if let Err(err) = made.await {
            self.forget(&id);
            let dir = self.container_dir(&id);
            // The first error is the one to tell; what is left here goes at the next start.
            let _ = blocking(move || rootfs::discard(&dir)).await;
            return Err(err);
        }
        Ok(())
    }

    /// What the caller keeps with a container.
    ///
    /// # Errors
    /// When it can't be read; it is missing where none was given.
    pub fn annex(&self, id: &str) -> std::io::Result<Vec<u8>> {
        fs::read(self.container_dir(id).join(ANNEX))
    }

    /// # Errors
    /// When it can't be written; what was there stays.
    pub async fn set_annex(&self, id: &str, annex: Vec<u8>) -> Result<()> {
        let path = self.container_dir(id).join(ANNEX);
        blocking(move || record::replace(&path, &annex)).await
    }

    pub(crate) fn entry(&self, id: &str) -> Result<Arc<Container>> {
        let missing = || Error::NotFound(format!("No such container: {id}"));
        self.containers.lock().get(id).cloned().ok_or_else(missing)
    }

    fn forget(&self, id: &str) {
        self.images.release(id);
        self.containers.lock().remove(id);
    }

    fn image_config(&self, id: &str) -> Result<ImageConfiguration> {
        let missing = || Error::NotFound(format!("No such image: {id}"));
        self.images.resolve(id).map(|image| image.config).ok_or_else(missing)
    }

    pub fn container(&self, id: &str) -> Option<ContainerStatus> {
        self.containers.lock().get(id).map(|container| container.now())
    }

    pub fn containers(&self) -> Vec<ContainerStatus> {
        self.containers.lock().values().map(|container| container.now()).collect()
    }

    /// Those of one sandbox. Others' statuses, which may be many and long, are not copied for it.
    pub fn containers_in(&self, sandbox: &str) -> Vec<ContainerStatus> {
        let containers = self.containers.lock();
        containers.values().filter(|container| container.is_in(sandbox)).map(|container| container.now()).collect()
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<String> {
        self.containers_in(sandbox).into_iter().map(|status| status.id).collect()
    }

    pub(crate) fn container_cgroup(&self, status: &ContainerStatus) -> Result<String> {
        let sandbox = self.sandbox(&status.sandbox)?;
        let own = self.sandbox_cgroup(&sandbox.spec);
        Ok(if sandbox.spec.lone { own } else { format!("{own}/{}", status.id) })
    }

    /// Starts a container that was created or has ended.
    ///
    /// # Errors
    /// In Docker's words when the program can't be run; the container then has ended with that error.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.entry(id)?;
        let _turn = container.doing.lock().await;
        let status = container.now();
        if matches!(status.state, State::Running | State::Paused) {
            return Err(Error::Conflict(format!("container {id} is already running")));
        }
        container.status.send_modify(|status| {
            status.state = State::Created;
            (status.started, status.finished, status.exit_code) = (None, None, None);
            (status.error, status.oom_killed) = (None, false);
        });
        let run = container.run.fetch_add(1, Ordering::Relaxed) + 1;
        match self.launch(&status, run).await {
            Ok((pid, user)) => {
                container.status.send_modify(|status| status.user = Some(user));
                self.running(&container, pid);
                self.save(&container).await
            }
            Err(err) => {
                let message = err.to_string();
                container.status.send_modify(|status| {
                    status.state = State::Exited;
                    status.finished = Some(SystemTime::now());
                    status.exit_code = Some(start_failure_code(&message));
                    status.error = Some(message);
                });
                self.save(&container).await?;
                let rootfs = Rootfs::new(self.container_dir(id));
                blocking(move || rootfs.unmount()).await?;
                Err(err)
            }
        }
    }

    async fn launch(&self, status: &ContainerStatus, run: u32) -> Result<(u32, Identity)> {
        let sandbox = self.sandbox(&status.sandbox)?;
        let image = self.image_config(&status.image)?;
        let layers = self.images.layers(&status.image)?;
        let cgroup = self.container_cgroup(status)?;
        let pid_namespace = self.joined_pid_namespace(&status.spec)?;
        let own_pid = pid_namespace.is_none() && !sandbox.spec.share_pid && !sandbox.spec.host_pid;
        if run > 1 && !sandbox.spec.lone {
            // Its counters are the earlier run's.
            cgroup::remove(&cgroup).await?;
        }
        let run_dir = sandbox_dir(&self.config.run_dir, &status.sandbox);
        let shm = match &sandbox.spec.ipc_of {
            Some(other) => sandbox_dir(&self.config.run_dir, other).join("shm"),
            None if sandbox.spec.host_ipc => PathBuf::from("/dev/shm"),
            None => run_dir.join("shm"),
        };
        let (dir, namespaces) = (self.container_dir(&status.id), self.namespaces(&status.sandbox));
        let of = |other: &Option<String>| other.as_ref().map_or_else(|| namespaces.clone(), |id| self.namespaces(id));
        let (net, ipc) = (of(&sandbox.spec.net_of).join("net"), of(&sandbox.spec.ipc_of).join("ipc"));
        let confinement = runtime_spec::confinement(&status.spec, &self.filters)?;
        let start = Start {
            id: status.id.clone(),
            run,
            bundle: dir.clone(),
            cgroup: cgroup.clone(),
            tty: status.spec.tty,
            stdin: status.spec.stdin,
            stdin_once: status.spec.stdin_once,
            own_pid,
            confinement: confinement.clone(),
            log: log_config(&status.spec.log),
        };
        let spec = status.spec.clone();
        let user = blocking(move || {
            let rootfs = Rootfs::new(dir.clone());
            rootfs.mount(&layers)?;
            let merged = rootfs.merged();
            let of_image = image.config().as_ref().and_then(|config| config.user().clone());
            let asked = spec.user.clone().or(of_image).unwrap_or_default();
            let user = users::resolve(&merged, &asked, spec.image_groups)?;
            let working_dir = runtime_spec::working_dir(&spec, &image);
            // What is mounted over it may have the directory that the image lacks.
            if let Err(err) = rootfs.create_dir(working_dir.as_ref(), user.uid, user.gid) {
                tracing::debug!(container = spec.id, %err, "working directory");
            }
            let around = Surroundings {
                sandbox: &sandbox.spec,
                image: &image,
                rootfs: &merged,
                user: &user,
                cgroup: &cgroup,
                namespaces: &namespaces,
                net: &net,
                ipc: &ipc,
                shm: &shm,
                pid_namespace,
            };
            if layout() == Layout::V1 {
                // Bound into the container before the OCI library has made all of them.
                cgroup::create(&cgroup, &Limits::default())?;
            }
            record::write(&dir.join(CONFINEMENT), &confinement)?;
            record::write(&dir.join("config.json"), &runtime_spec::container(&spec, &around)?)?;
            Ok(user.identity(&spec.supplemental_groups))
        })
        .await?;
        match call(&run_dir, &Request::Start(start), "failed to start container").await? {
            Reply::Started { pid } => Ok((pid, user)),
            other => Err(Error::Failed { step: "failed to start container", message: format!("shim said {other:?}") }),
        }
    }

    fn joined_pid_namespace(&self, spec: &ContainerSpec) -> Result<Option<PathBuf>> {
        let Some(other) = &spec.pid_of else { return Ok(None) };
        let pid = self.entry(other)?.now().pid;
        let stopped = || Error::Conflict(format!("cannot join PID of a non running container: {other}"));
        Ok(Some(PathBuf::from(format!("/proc/{}/ns/pid", pid.ok_or_else(stopped)?))))
    }

    /// The stop signal, then SIGKILL after `grace`; returns once it has exited.
    ///
    /// # Errors
    /// When the container does not exist or can't be signalled. One that does not run is no error.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let container = self.entry(id)?;
        let status = container.now();
        if !matches!(status.state, State::Running | State::Paused) {
            return Ok(());
        }
        if !grace.is_zero() {
            match self.signal(&status, self.stop_signal(&status), false).await {
                Ok(()) => {
                    self.thaw(&status).await?;
                    if tokio::time::timeout(grace, ended(&container)).await.is_ok() {
                        return Ok(());
                    }
                }
                // It ended by itself meanwhile.
                Err(Error::Conflict(_) | Error::NotFound(_)) => {}
                Err(err) => return Err(err),
            }
        }
        match self.signal(&status, nix::libc::SIGKILL, true).await {
            Ok(()) | Err(Error::Conflict(_) | Error::NotFound(_)) => {}
            Err(err) => return Err(err),
        }
        let dead = tokio::time::timeout(KILL, ended(&container)).await;
        dead.map_err(|_| Error::Failed {
            step: "stop container",
            message: format!("tried to kill container {id}, but did not receive an exit event"),
        })
    }

    fn stop_signal(&self, status: &ContainerStatus) -> i32 {
        let of_image = || self.image_config(&status.image).ok()?.config().as_ref()?.stop_signal().clone();
        let signal = status.spec.stop_signal.clone().or_else(of_image);
        // An image's signal that makes no sense must not make its containers unstoppable.
        signal.and_then(|signal| signals::number(&signal).ok()).unwrap_or(nix::libc::SIGTERM)
    }

    /// A paused container goes on for SIGKILL and for its stop signal; others wait for it, as Docker has it.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn kill_container(&self, id: &str, signal: i32) -> Result<()> {
        let status = self.entry(id)?.now();
        if !matches!(status.state, State::Running | State::Paused) {
            return Err(Error::Conflict(format!("container {id} is not running")));
        }
        self.signal(&status, signal, false).await?;
        if signal == nix::libc::SIGKILL || signal == self.stop_signal(&status) {
            self.thaw(&status).await?;
        }
        Ok(())
    }

    async fn signal(&self, status: &ContainerStatus, signal: i32, all: bool) -> Result<()> {
        let request = Request::Kill { id: status.id.clone(), signal, all };
        call(&sandbox_dir(&self.config.run_dir, &status.sandbox), &request, "kill container").await.map(|_| ())
    }

    /// # Errors
    /// `Conflict` when it runs. One that does not exist is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let Ok(container) = self.entry(id) else { return Ok(()) };
        let _turn = container.doing.lock().await;
        let status = container.now();
        if matches!(status.state, State::Running | State::Paused) {
            return Err(Error::Conflict(format!("container {id} is running: stop the container before removing it")));
        }
        let run = sandbox_dir(&self.config.run_dir, &status.sandbox);
        let forgotten = call(&run, &Request::Forget { id: id.to_owned() }, "forget container").await;
        // A shim that is gone has forgotten.
        if let Err(err @ Error::Conflict(_)) = forgotten {
            return Err(err);
        }
        if let Ok(cgroup) = self.container_cgroup(&status) {
            cgroup::remove(&cgroup).await?;
        }
        let dir = self.container_dir(id);
        blocking(move || {
            // The record goes first: without it, what is left counts as half made.
            match fs::remove_file(dir.join(RECORD)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Failed { step: "remove container", message: err.to_string() });
                }
                _ => {}
            }
            rootfs::discard(&dir)
        })
        .await?;
        self.forget(id);
        Ok(())
    }

    /// Bytes of the disk that the container's own changes to its image take.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn writable_bytes(&self, id: &str) -> Result<u64> {
        let layer = Rootfs::new(self.container_dir(id)).changes();
        blocking(move || {
            disk_bytes(&layer).map_err(|err| Error::NotFound(format!("no measurements of {}: {err}", layer.display())))
        })
        .await
    }

    /// # Errors
    /// `NotFound` when it does not run.
    pub async fn stats(&self, id: &str) -> Result<Stats> {
        let cgroup = self.container_cgroup(&self.entry(id)?.now())?;
        blocking(move || cgroup::stats(&cgroup)).await
    }
}

/// Whether a container has a sandbox to itself.
fn is_lone(spec: &ContainerSpec) -> bool {
    spec.sandbox == spec.id
}

/// How a container's shim keeps its log.
pub(crate) fn log_config(log: &Log) -> LogConfig {
    LogConfig {
        path: (log.format != LogFormat::None).then(|| log.path.clone()),
        format: if log.format == LogFormat::JsonFile { Format::Json } else { Format::Cri },
        max_bytes: if log.max_bytes > 0 { log.max_bytes } else { LOG_BYTES },
        max_files: if log.max_files > 0 { log.max_files } else { LOG_FILES },
    }
}

/// Docker's codes: 127 for a program that is not there, 126 for one that can't be run, else 128.
fn start_failure_code(message: &str) -> i32 {
    if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied") || message.contains("is a directory") {
        126
    } else {
        EXIT_NOT_STARTED
    }
}
