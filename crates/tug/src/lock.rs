//! What only one server may have at a time: its data directory, and this host's (or machine's) `/run/tug`, which stands
//! for all that there is once: bridge, sockets, the kubelet's port. The kernel lets go of the locks with the process,
//! however it ends; containers' shims don't inherit them.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held until it is dropped.
pub struct Lock {
    _file: File,
}

/// Locks a directory that exists.
///
/// # Errors
/// When another server has it.
pub fn hold(directory: &Path) -> Result<Lock> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            bail!("another tug server is running on {}; end it first", directory.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
