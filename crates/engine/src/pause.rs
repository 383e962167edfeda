//! Freezing a container and changing its limits while it is there.

use std::time::Duration;

use tug_shim::cgroup::{is_frozen, processes, set_frozen};

use crate::cgroup;
use crate::engine::{Engine, Error, Result, blocking};
use crate::progress::RECORD;
use crate::record;
use crate::spec::*;

/// How long the kernel may take.
const FREEZE_MILLIS: u32 = 1000;

impl Engine {
    /// # Errors
    /// `Conflict` unless it runs.
    pub async fn pause_container(&self, id: &str) -> Result<()> {
        self.turn_to(id, State::Running, State::Paused).await
    }

    /// # Errors
    /// `Conflict` unless it is paused.
    pub async fn unpause_container(&self, id: &str) -> Result<()> {
        self.turn_to(id, State::Paused, State::Running).await
    }

    async fn turn_to(&self, id: &str, from: State, to: State) -> Result<()> {
        let container = self.entry(id)?;
        let _turn = container.doing.lock().await;
        let status = container.now();
        match status.state {
            state if state == from => {}
            State::Paused => return Err(Error::Conflict(format!("Container {id} is already paused"))),
            State::Running => return Err(Error::Conflict(format!("Container {id} is not paused"))),
            _ => return Err(Error::Conflict(format!("Container {id} is not running"))),
        }
        let cgroup = self.container_cgroup(&status)?;
        blocking(move || freeze(&cgroup, to == State::Paused)).await?;
        container.status.send_modify(|status| {
            // It may have ended meanwhile.
            if status.state == from {
                status.state = to;
            }
        });
        self.save(&container).await
    }

    /// A container that is told to end must run to hear it.
    ///
    /// # Errors
    /// When its control group can't be written to.
    pub(crate) async fn thaw(&self, status: &ContainerStatus) -> Result<()> {
        match self.unpause_container(&status.id).await {
            // It wasn't paused, or has ended.
            Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    /// Replaces what a container is made from; its next start sees it. With `limits_now` a running one is held to its
    /// new limits at once.
    ///
    /// # Errors
    /// `NotFound`; when a limit is refused, which then isn't kept either.
    pub async fn change_container(&self, id: &str, spec: ContainerSpec, limits_now: bool) -> Result<()> {
        let container = self.entry(id)?;
        let mut status = container.now();
        if limits_now && matches!(status.state, State::Running | State::Paused) {
            let (cgroup, limits) = (self.container_cgroup(&status)?, spec.limits.clone());
            blocking(move || cgroup::apply(&cgroup, &limits)).await?;
        }
        container.status.send_modify(|status| status.spec = spec.clone());
        status.spec = spec;
        let path = self.container_dir(id).join(RECORD);
        blocking(move || record::write_synced(&path, &status)).await
    }

    /// Numbers of a container's processes as this process sees them.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>> {
        Ok(processes(&self.container_cgroup(&self.entry(id)?.now())?))
    }
}

/// Returns once all processes of the group stand still, or go on.
fn freeze(cgroup: &str, frozen: bool) -> Result<()> {
    let failed = |err: std::io::Error| Error::Failed { step: "freeze the container", message: err.to_string() };
    set_frozen(cgroup, frozen).map_err(failed)?;
    for _ in 0..FREEZE_MILLIS {
        if is_frozen(cgroup).map_err(failed)? == frozen {
            return Ok(());
        }
        // The kernel freezes what runs within its next steps, and v1 tells nobody when: it has to be asked.
        std::thread::sleep(Duration::from_millis(1));
    }
    set_frozen(cgroup, false).map_err(failed)?;
    Err(Error::Failed { step: "freeze the container", message: "unable to freeze".into() })
}
