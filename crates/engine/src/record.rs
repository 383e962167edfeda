//! Small JSON files that hold what must outlive the daemon: written whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Error, Result};

/// Writes `value` beside `path`, syncs it, and puts it in place.
///
/// # Errors
/// When the disk is full or the directory is gone.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed =
        |err: std::io::Error| Error::Failed { step: "write state", message: format!("{}: {err}", path.display()) };
    let bytes = serde_json::to_vec(value).map_err(|err| failed(err.into()))?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// `None` when there is no such file, or none that can be read as a `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
