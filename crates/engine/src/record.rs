//! Small JSON files that hold what must outlive the daemon: written whole or not at all.
//!
//! What the kernel has taken outlives the daemon; what has been synced also outlives the kernel. Only what was promised
//! to outlast a power cut is worth the wait for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Error, Result};

/// Writes `value` beside `path` and puts it in place. After a power cut the file may be the old one, or unreadable.
///
/// # Errors
/// When the disk is full or the directory is gone.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    replace(path, &encoded(path, value)?)
}

/// As [`write`] for bytes.
///
/// # Errors
/// As [`write`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_and(path, bytes, |_| Ok(()), || Ok(()))
}

/// Writes `value` so that a power cut does not take it back.
///
/// # Errors
/// As [`write`].
pub fn write_synced<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    replace_and(path, &encoded(path, value)?, File::sync_data, || File::open(dir)?.sync_all())
}

fn encoded<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|err| Error::Failed { step: "write state", message: format!("{}: {err}", path.display()) })
}

fn replace_and(
    path: &Path,
    bytes: &[u8],
    sync: impl FnOnce(&File) -> std::io::Result<()>,
    sync_name: impl FnOnce() -> std::io::Result<()>,
) -> Result<()> {
    let failed =
        |err: std::io::Error| Error::Failed { step: "write state", message: format!("{}: {err}", path.display()) };
    let temporary = path.with_extension("new");
    // Environments hold passwords.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| sync(&file)).map_err(failed)?;
    fs::rename(&temporary, path).and_then(|()| sync_name()).map_err(failed)
}

/// `None` when there is no such file, or none that can be read as a `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
