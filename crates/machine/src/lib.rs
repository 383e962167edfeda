//! Machines: sets of Linux namespaces over the host's own files that play the part a VM plays elsewhere.
//!
//! A machine has its own network, mounts, pids, host name, IPC and cgroups, private state directories, and a tiny init
//! as PID 1 that keeps one program running in it. It knows nothing of Kubernetes: what runs inside is an argument list.

mod cgroups;
mod enter;
mod init;
mod launch;
mod log;
mod mounts;
mod record;
mod teardown;

pub use enter::{enter_and_run, namespace};
pub use init::run_as_init;
pub use launch::{Launched, launch};
pub use record::{Machine, Paths, Program, list, load};
pub use teardown::{remove, remove_unrecorded, stop};

/// Prefix of a machine's cgroups, `/tug-<name>` in every hierarchy.
pub const CGROUP_PREFIX: &str = "tug-";

/// What failed, at which step; `help` says what a person can do about it, where there is something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step}: {source}")]
    Step {
        step: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Names the step in which an operating-system call failed.
pub(crate) trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Step { step: step.into(), source: source.into() })
    }
}
