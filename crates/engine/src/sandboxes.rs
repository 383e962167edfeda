//! Sandboxes: starting a shim, following it, taking a running one back, and clearing away what one leaves.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::mount::{MsFlags, mount};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tug_shim::protocol::{self, Reply, Request};

use crate::cgroup;
use crate::engine::{Engine, Error, Result, blocking};
use crate::record;
use crate::rootfs::{Rootfs, unmount};
use crate::shim_client::{Call, call, sandbox_dir};
use crate::spec::*;

const SHM_BYTES: u64 = 64 << 20;
/// As containerd's shims: killed for want of memory after everything else but the kernel's own.
const SHIM_OOM_SCORE_ADJ: i32 = -998;
const ID_BYTES: usize = 64;
/// The shim's standard error in its run directory.
const SHIM_LOG: &str = "shim.log";
/// A shim answers at once, or when the container runs that it is starting.
const ANSWER: Duration = Duration::from_secs(10);
/// Killed processes are gone well within this.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A sandbox as the engine knows it.
pub(crate) struct Sandbox {
    pub status: Mutex<SandboxStatus>,
    /// Ends the task that follows the shim.
    follower: Mutex<Option<tokio::task::JoinHandle<()>>>,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    /// Its shim has been up, and may have died since.
    Up,
    /// Nothing of it is left but its record and its containers'.
    Stopped,
}

impl Sandbox {
    fn new(status: SandboxStatus) -> Self {
        Sandbox { status: Mutex::new(status), follower: Mutex::default(), phase: Mutex::new(Phase::Starting) }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Its shim is gone, and what that held may be left.
    fn is_dead(&self) -> bool {
        self.phase() == Phase::Up && !self.status.lock().ready
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get_mut().take() {
            follower.abort();
        }
    }
}

impl Engine {
    /// Starts a shim that holds the namespaces, and makes the sandbox's control group.
    ///
    /// # Errors
    /// `Conflict` when there is one of that id; else the step that failed. Nothing is left of a failed one.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if spec.id.is_empty() || spec.id.len() > ID_BYTES || !spec.id.bytes().all(valid) {
            return Err(Error::Invalid(format!("invalid sandbox id \"{}\"", spec.id)));
        }
        let id = spec.id.clone();
        let own_net = !spec.host_network && spec.net_of.is_none();
        let status = SandboxStatus {
            id: id.clone(),
            labels: spec.labels.clone(),
            created: SystemTime::now(),
            ready: false,
            netns: own_net.then(|| self.namespaces(&id).join("net")),
            spec,
        };
        let earlier = self.sandboxes.lock().get(&id).cloned();
        if earlier.is_some_and(|earlier| earlier.is_dead()) {
            self.stop_sandbox(&id).await?;
        }
        let sandbox = Arc::new(Sandbox::new(status.clone()));
        {
            let mut sandboxes = self.sandboxes.lock();
            if sandboxes.get(&id).is_some_and(|earlier| earlier.phase() != Phase::Stopped) {
                return Err(Error::Conflict(format!("sandbox {id} exists already")));
            }
            sandboxes.insert(id.clone(), sandbox.clone());
        }
        match self.bring_up(&status).await {
            Ok(()) => {
                sandbox.status.lock().ready = true;
                *sandbox.phase.lock() = Phase::Up;
                self.follow(&sandbox, &id);
                let status = sandbox.status.lock().clone();
                Ok(status)
            }
            Err(err) => {
                let cleared = self.clear_away(&status).await.and_then(|()| remove_file(&self.sandbox_record(&id)));
                if let Err(clearing) = cleared {
                    tracing::warn!(sandbox = id, error = %clearing, "a failed sandbox left something behind");
                }
                self.sandboxes.lock().remove(&id);
                Err(err)
            }
        }
    }

    async fn bring_up(&self, status: &SandboxStatus) -> Result<()> {
        let dir = sandbox_dir(&self.config.run_dir, &status.id);
        let (config, record) = (self.shim_config(status), self.sandbox_record(&status.id));
        let (cgroup, kept) = (self.sandbox_cgroup(&status.spec), status.clone());
        let in_dir = dir.clone();
        let log = blocking(move || {
            record::write(&record, &kept)?;
            cgroup::create(&cgroup, &kept.spec.limits)?;
            lay_out(&in_dir, &config, &kept.spec)
        });
        spawn_shim(&self.config.program, &dir, log.await?).await
    }

    fn shim_config(&self, status: &SandboxStatus) -> protocol::Sandbox {
        let spec = &status.spec;
        let mut sysctls = spec.sysctls.clone();
        let own_net = !spec.host_network && spec.net_of.is_none();
        if own_net {
            // What Docker and containerd set: a network namespace's ports and pings need no privilege of their own.
            for (name, value) in
                [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
            {
                sysctls.entry(name.into()).or_insert_with(|| value.into());
            }
        }
        protocol::Sandbox {
            id: status.id.clone(),
            net: own_net,
            ipc: !spec.host_ipc && spec.ipc_of.is_none(),
            hostname: (!spec.hostname.is_empty()).then(|| spec.hostname.clone()),
            pid: spec.share_pid && !spec.host_pid,
            sysctls,
            namespaces: self.namespaces(&status.id),
            cgroup: format!("{}/shims", self.config.cgroup_parent),
            oom_score_adj: SHIM_OOM_SCORE_ADJ,
        }
    }

    pub(crate) fn namespaces(&self, sandbox: &str) -> PathBuf {
        self.config.run_dir.join("ns").join(sandbox)
    }

    pub(crate) fn sandbox_cgroup(&self, spec: &SandboxSpec) -> String {
        let own = if spec.cgroup.is_empty() { &spec.id } else { &spec.cgroup };
        format!("{}/{}", self.config.cgroup_parent, own.trim_matches('/'))
    }

    /// Makes a control group above those of sandboxes, relative to the engine's own, or sets limits of one that is there.
    ///
    /// # Errors
    /// When it can't be made or a limit is refused.
    pub async fn limit_group(&self, group: &str, limits: Limits) -> Result<()> {
        let cgroup = format!("{}/{}", self.config.cgroup_parent, group.trim_matches('/'));
        blocking(move || cgroup::create(&cgroup, &limits)).await
    }

    pub fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.sandboxes.lock().values().map(|sandbox| sandbox.status.lock().clone()).collect()
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<SandboxStatus> {
        let missing = || Error::NotFound(format!("no such sandbox: {id}"));
        self.sandboxes.lock().get(id).map(|sandbox| sandbox.status.lock().clone()).ok_or_else(missing)
    }

    /// Kills what still runs in it, ends the shim, removes its containers, namespaces and cgroups. Idempotent.
    ///
    /// # Errors
    /// When something can't be removed; what is left is removed by the next call.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.remove_container(&container).await?;
        }
        remove_file(&self.sandbox_record(id))?;
        self.sandboxes.lock().remove(id);
        Ok(())
    }

    /// Kills what still runs in it and lets go of all it holds: shim, namespaces, cgroups, mounts. Its containers stay
    /// with their logs until it is removed, and none of them can be started again. Idempotent.
    ///
    /// # Errors
    /// When something can't be removed; what is left is removed by the next call.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let Some(sandbox) = self.sandboxes.lock().get(id).cloned() else { return Ok(()) };
        if sandbox.phase() == Phase::Stopped {
            return Ok(());
        }
        let status = sandbox.status.lock().clone();
        let dir = sandbox_dir(&self.config.run_dir, id);
        if let Some(follower) = sandbox.follower.lock().take() {
            // Its last news would be that the shim has left, which is what is being asked of it here.
            follower.abort();
        }
        // A shim that does not answer is dead: what it held is killed below.
        if let Ok(shutdown) = Call::ask(&dir, &Request::Shutdown, &[]).await {
            // One whose containers do not die, in a system call that does not end, is found out below.
            let _ = tokio::time::timeout(SHUTDOWN, async { while shutdown.reply().await.is_some() {} }).await;
        }
        sandbox.status.lock().ready = false;
        self.end_containers(id).await;
        self.clear_away(&status).await?;
        let dirs: Vec<PathBuf> = self.containers_of(id).iter().map(|id| self.container_dir(id)).collect();
        blocking(move || dirs.into_iter().try_for_each(|dir| Rootfs::new(dir).unmount())).await?;
        *sandbox.phase.lock() = Phase::Stopped;
        Ok(())
    }

    /// As [`Engine::stop_sandbox`], and forgets the sandbox: its containers start again in another one of its id.
    ///
    /// # Errors
    /// As there.
    pub async fn release_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        remove_file(&self.sandbox_record(id))?;
        self.sandboxes.lock().remove(id);
        Ok(())
    }

    async fn clear_away(&self, status: &SandboxStatus) -> Result<()> {
        let cgroup = self.sandbox_cgroup(&status.spec);
        tug_shim::cgroup::kill(&cgroup);
        cgroup::remove(&cgroup).await?;
        let dir = sandbox_dir(&self.config.run_dir, &status.id);
        let namespaces = self.namespaces(&status.id);
        blocking(move || {
            for name in ["net", "ipc", "uts", "pid"] {
                unmount(&namespaces.join(name))?;
            }
            unmount(&dir.join("shm"))?;
            for result in [fs::remove_dir_all(&namespaces), fs::remove_dir_all(&dir)] {
                match result {
                    Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::Failed { step: "remove sandbox", message: err.to_string() });
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes a sandbox of an earlier engine back, alive or not.
    pub(crate) async fn adopt(&self, mut status: SandboxStatus) {
        let id = status.id.clone();
        let dir = sandbox_dir(&self.config.run_dir, &id);
        let answer = tokio::time::timeout(ANSWER, call(&dir, &Request::List, "list containers")).await;
        let ready = matches!(answer, Ok(Ok(_)));
        status.ready = ready;
        if !ready {
            half_started_is_over(&dir).await;
        }
        let sandbox = Arc::new(Sandbox::new(status));
        *sandbox.phase.lock() = Phase::Up;
        self.sandboxes.lock().insert(id.clone(), sandbox.clone());
        if ready {
            self.take_stock(&id).await;
            self.follow(&sandbox, &id);
        } else {
            self.shim_is_gone(&id).await;
        }
    }

    /// Follows a shim's news in a task of its own, until the sandbox is removed or the shim dies.
    fn follow(&self, sandbox: &Arc<Sandbox>, id: &str) {
        let (engine, id) = (self.this.clone(), id.to_owned());
        let dir = sandbox_dir(&self.config.run_dir, &id);
        let follower = tokio::spawn(async move {
            // Connecting anew after a break: a shim drops a daemon that was too slow, and lives on.
            while let Ok(news) = Call::ask(&dir, &Request::Subscribe, &[]).await {
                let Some(Reply::Done) = news.reply().await else { break };
                let Some(strong) = engine.upgrade() else { return };
                // What happened before the subscription is found by looking.
                strong.take_stock(&id).await;
                drop(strong);
                while let Some(reply) = news.reply().await {
                    let Some(engine) = engine.upgrade() else { return };
                    if let Reply::Exited(exit) = reply {
                        engine.exited(&exit).await;
                    }
                }
            }
            if let Some(engine) = engine.upgrade() {
                engine.shim_is_gone(&id).await;
            }
        });
        *sandbox.follower.lock() = Some(follower);
    }

    async fn take_stock(&self, id: &str) {
        let dir = sandbox_dir(&self.config.run_dir, id);
        let Ok(Reply::Containers(containers)) = call(&dir, &Request::List, "list containers").await else { return };
        for container in containers {
            match (container.exit, container.pid) {
                (Some(exit), _) => self.exited(&exit).await,
                (None, Some(pid)) => self.found_running(&container.id, container.run, pid).await,
                (None, None) => {}
            }
        }
    }

    /// A dead shim can't be replaced: what it held is killed, and its containers end with what is known of them.
    async fn shim_is_gone(&self, id: &str) {
        let Some(sandbox) = self.sandboxes.lock().get(id).cloned() else { return };
        sandbox.status.lock().ready = false;
        let spec = sandbox.status.lock().spec.clone();
        tug_shim::cgroup::kill(&self.sandbox_cgroup(&spec));
        self.end_containers(id).await;
        self.emit(Event::SandboxDied { id: id.to_owned() });
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Failed { step: "remove sandbox", message: format!("{}: {err}", path.display()) })
        }
        _ => Ok(()),
    }
}

/// Makes the run directory: the shim's configuration, its log and the shared memory.
fn lay_out(dir: &Path, config: &protocol::Sandbox, spec: &SandboxSpec) -> Result<File> {
    let failed =
        |err: std::io::Error| Error::Failed { step: "make sandbox", message: format!("{}: {err}", dir.display()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    record::write(&dir.join(protocol::CONFIG), config)?;
    let shm = dir.join("shm");
    fs::create_dir_all(&shm).map_err(failed)?;
    if config.ipc {
        let bytes = if spec.shm_bytes > 0 { spec.shm_bytes } else { SHM_BYTES };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = format!("mode=1777,size={bytes}");
        mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(options.as_str())).map_err(|err| failed(err.into()))?;
    }
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(SHIM_LOG)).map_err(failed)?;
    // The shim inherits the lock with its standard error, and whatever becomes of this process.
    rustix::fs::flock(&log, FlockOperation::NonBlockingLockExclusive).map_err(|err| failed(err.into()))?;
    Ok(log)
}

/// Waits for a shim that was being started when its daemon died. It would make namespaces and mounts behind the back of
/// those who clear away what it leaves; having nobody to tell that it is ready, it ends.
async fn half_started_is_over(dir: &Path) {
    let log = dir.join(SHIM_LOG);
    let wait = tokio::task::spawn_blocking(move || {
        // Without the file none was started.
        File::open(log).map(|log| rustix::fs::flock(log, FlockOperation::LockExclusive))
    });
    match tokio::time::timeout(SHUTDOWN, wait).await {
        Ok(Ok(_)) => {}
        _ => tracing::warn!(dir = %dir.display(), "a shim neither answers nor ends"),
    }
}

/// Starts the shim and waits until it holds the namespaces and answers.
async fn spawn_shim(program: &Path, dir: &Path, log: File) -> Result<()> {
    let failed = |message: String| Error::Failed { step: "start the sandbox's shim", message };
    // What it is run by gives a process its name, until it can take one itself.
    let link = dir.join("tug-shim");
    match std::os::unix::fs::symlink(program, &link) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(err.to_string())),
        _ => {}
    }
    let mut child = Command::new(&link)
        .arg0("tug-shim")
        .arg("shim")
        .arg("--dir")
        .arg(dir)
        // Nothing of the daemon's is a container's: LISTEN_FDS, say, would be taken for its own.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(|err| failed(format!("{}: {err}", program.display())))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("no pipe".into()))?;
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said).await.map_err(|err| failed(err.to_string()))?;
    // Reaped when it ends, as long as this process lives; init does it after that.
    tokio::spawn(async move { child.wait().await });
    match said.trim() {
        "ready" => Ok(()),
        "" => Err(failed("it died".into())),
        why => Err(failed(why.into())),
    }
}
