//! How far a container is: in memory for those who wait, on disk for the next engine, as its shim tells it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tug_shim::protocol::Exit;

use crate::engine::{Engine, Result, blocking};
use crate::record;
use crate::rootfs::Rootfs;
use crate::shim_client::sandbox_dir;
use crate::spec::*;

/// For a container whose end nobody saw: it was killed, or the machine went down under it.
const EXIT_UNKNOWN: i32 = 137;

/// A container as the engine knows it.
pub(crate) struct Container {
    pub status: watch::Sender<ContainerStatus>,
    /// How often it was started: what is told of an earlier run is no news.
    pub run: AtomicU32,
    /// One start or removal at a time.
    pub doing: tokio::sync::Mutex<()>,
    /// Writes of its record, one after the other, each of the newest state.
    saving: tokio::sync::Mutex<()>,
}

impl Container {
    pub fn new(status: ContainerStatus) -> Self {
        let status = watch::Sender::new(status);
        Container { status, run: AtomicU32::new(0), doing: Default::default(), saving: Default::default() }
    }

    /// What an earlier engine left in a container's directory; `None` when it did not finish making it.
    pub fn recover(dir: &Path) -> Option<Self> {
        let mut status = record::read::<ContainerStatus>(&dir.join(RECORD))?;
        // Without it nothing is known but that it was made: it never ran, or power failed.
        let progress = record::read::<Progress>(&dir.join(PROGRESS)).unwrap_or_default();
        let run = progress.run;
        progress.apply(&mut status);
        let container = Self::new(status);
        container.run.store(run, Ordering::Relaxed);
        Some(container)
    }

    pub fn now(&self) -> ContainerStatus {
        self.status.borrow().clone()
    }

    pub fn is_in(&self, sandbox: &str) -> bool {
        self.status.borrow().sandbox == sandbox
    }
}

/// Made once, and synced: what the container is.
pub(crate) const RECORD: &str = "container.json";
/// Written at each step: how far it is. Where power failed, that is over in any case.
const PROGRESS: &str = "progress.json";

#[derive(Default, Serialize, Deserialize)]
struct Progress {
    run: u32,
    state: State,
    pid: Option<u32>,
    started: Option<SystemTime>,
    finished: Option<SystemTime>,
    exit_code: Option<i32>,
    oom_killed: bool,
    error: Option<String>,
    user: Option<Identity>,
}

impl Progress {
    fn of(container: &Container) -> Self {
        let status = container.now();
        Progress {
            run: container.run.load(Ordering::Relaxed),
            state: status.state,
            pid: status.pid,
            started: status.started,
            finished: status.finished,
            exit_code: status.exit_code,
            oom_killed: status.oom_killed,
            error: status.error,
            user: status.user,
        }
    }

    fn apply(self, status: &mut ContainerStatus) {
        (status.state, status.pid) = (self.state, self.pid);
        (status.started, status.finished) = (self.started, self.finished);
        (status.exit_code, status.oom_killed, status.error) = (self.exit_code, self.oom_killed, self.error);
        status.user = self.user;
    }
}

impl Engine {
    pub(crate) async fn save(&self, container: &Container) -> Result<()> {
        let _turn = container.saving.lock().await;
        let progress = Progress::of(container);
        let path = self.container_dir(&container.now().id).join(PROGRESS);
        blocking(move || record::write(&path, &progress)).await
    }

    pub(crate) fn running(&self, container: &Container, pid: u32) {
        let mut news = false;
        container.status.send_modify(|status| {
            // It may have run and ended before this is known.
            news = status.started.is_none();
            status.started.get_or_insert_with(SystemTime::now);
            if status.state == State::Created {
                status.state = State::Running;
                status.pid = Some(pid);
            }
        });
        if news {
            let status = container.now();
            self.emit(Event::Started { id: status.id, sandbox: status.sandbox });
        }
    }

    /// A shim's word that a container has ended.
    pub(crate) async fn exited(&self, exit: &Exit) {
        let Ok(container) = self.entry(&exit.id) else { return };
        let finished = UNIX_EPOCH + Duration::from_nanos(exit.at_nanos);
        let (mut started, mut ended) = (false, false);
        container.status.send_modify(|status| {
            // Told of an earlier run, or twice.
            let run = container.run.fetch_max(exit.run, Ordering::Relaxed);
            if exit.run < run || (exit.run == run && status.state == State::Exited) {
                return;
            }
            started = status.started.is_none();
            ended = true;
            status.started.get_or_insert(finished);
            status.state = State::Exited;
            status.pid = None;
            status.finished = Some(finished);
            status.exit_code = Some(exit.code);
            status.oom_killed = exit.oom_killed;
        });
        if !ended {
            return;
        }
        self.saved(&container).await;
        let sandbox = container.now().sandbox;
        if started {
            self.emit(Event::Started { id: exit.id.clone(), sandbox: sandbox.clone() });
        }
        let (exit_code, oom_killed) = (exit.code, exit.oom_killed);
        self.emit(Event::Exited { id: exit.id.clone(), sandbox, exit_code, oom_killed });
        self.let_go_of_root(container);
    }

    /// Unmounts what an earlier engine mounted for containers that it did not come to start, or that ended without it.
    pub(crate) async fn let_go_of_roots(&self) -> Result<()> {
        let idle = |status: &ContainerStatus| !matches!(status.state, State::Running | State::Paused);
        let idle: Vec<_> =
            self.containers().into_iter().filter(idle).map(|status| self.container_dir(&status.id)).collect();
        blocking(move || idle.into_iter().try_for_each(|dir| Rootfs::new(dir).unmount())).await
    }

    /// Unmounts the root of a container that has ended, in a task that lasts as long as that takes. It is mounted again
    /// when the container starts again.
    fn let_go_of_root(&self, container: Arc<Container>) {
        let engine = self.this.clone();
        tokio::spawn(async move {
            // Not under a start or a removal.
            let _turn = container.doing.lock().await;
            let status = container.now();
            let Some(engine) = engine.upgrade() else { return };
            let is_known = engine.entry(&status.id).is_ok_and(|known| Arc::ptr_eq(&known, &container));
            if status.state != State::Exited || !is_known {
                return;
            }
            let rootfs = Rootfs::new(engine.container_dir(&status.id));
            if let Err(err) = blocking(move || rootfs.unmount()).await {
                tracing::warn!(container = status.id, %err, "its root stays mounted until it is removed");
            }
        });
    }

    /// For a change that has happened whether or not it can be written down.
    async fn saved(&self, container: &Container) {
        if let Err(err) = self.save(container).await {
            tracing::error!(container = container.now().id, %err, "a container's state is not on disk");
        }
    }

    /// A container runs that this engine did not see start: an earlier engine's, or one whose reply was lost.
    pub(crate) async fn found_running(&self, id: &str, run: u32, pid: u32) {
        let Ok(container) = self.entry(id) else { return };
        let known = container.run.fetch_max(run, Ordering::Relaxed);
        if run > known || (run == known && container.now().state == State::Created) {
            container.status.send_modify(|status| {
                status.state = State::Created;
                (status.started, status.finished, status.exit_code) = (None, None, None);
                (status.error, status.oom_killed) = (None, false);
            });
            self.running(&container, pid);
            self.saved(&container).await;
        }
    }

    /// Ends all of a sandbox's containers whose end the shim did not tell: by its records, else as killed.
    pub(crate) async fn end_containers(&self, sandbox: &str) {
        let exits = sandbox_dir(&self.config.run_dir, sandbox).join("exits");
        for id in self.containers_of(sandbox) {
            let Ok(container) = self.entry(&id) else { continue };
            let run = container.run.load(Ordering::Relaxed);
            let told = record::read::<Exit>(&exits.join(format!("{id}.json"))).filter(|exit| exit.run >= run);
            let runs = matches!(container.now().state, State::Running | State::Paused);
            if let Some(exit) = told.or_else(|| runs.then(|| unknown_exit(&id, run))) {
                self.exited(&exit).await;
            }
        }
    }

    /// Containers whose sandbox is gone altogether: an engine died between removing the two.
    pub(crate) async fn settle_orphans(&self) {
        for status in self.containers() {
            if self.sandbox(&status.sandbox).is_err() {
                self.end_containers(&status.sandbox).await;
            }
        }
    }
}

fn unknown_exit(id: &str, run: u32) -> Exit {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Exit { id: id.to_owned(), run, code: EXIT_UNKNOWN, oom_killed: false, at_nanos: now.as_nanos() as u64 }
}

pub(crate) async fn ended(container: &Container) {
    let mut status = container.status.subscribe();
    // Fails when the container is forgotten, which only happens to one that has ended.
    let _ = status.wait_for(|status| status.state == State::Exited).await;
}
