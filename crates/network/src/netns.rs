//! Work inside another network namespace: a thread enters it, does its work and ends there.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result, Step};

/// Opens the namespace at `path` (a bind mount, or `/proc/PID/ns/net`).
///
/// # Errors
/// If there is no such file.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).step(|| format!("opening network namespace {}", path.display()))
}

/// Runs `work` on a thread that has entered `netns` and waits for it.
///
/// # Errors
/// If the namespace can't be entered, or what `work` gives.
pub fn run<T: Send>(netns: impl AsFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let netns = netns.as_fd();
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                enter(netns)?;
                work()
            })
            .join()
            .map_err(|_| Error::ThreadPanicked)?
    })
}

/// Moves the calling thread, and only it, into `netns`, for good.
pub(crate) fn enter(netns: BorrowedFd<'_>) -> Result<()> {
    setns(netns, CloneFlags::CLONE_NEWNET).step(|| "entering a network namespace".into())
}
