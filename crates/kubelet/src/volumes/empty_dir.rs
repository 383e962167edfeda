//! emptyDir: a directory of the pod's own on the node's disk, or in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::MsFlags;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::ownership;
use crate::resources::bytes_of;

/// Makes the directory unless it is there already: its content belongs to the pod.
pub fn prepare(place: &Path, source: &EmptyDirVolumeSource, fs_group: Option<u32>) -> Result<(), String> {
    // The mark is left last, so that one half made is finished at the next try.
    let mark = place.with_file_name(format!(".{}.ready", place.file_name().unwrap_or_default().to_string_lossy()));
    if source.medium.as_deref() == Some("Memory") {
        mount_tmpfs(place, source.size_limit.as_ref().map(bytes_of))?;
    }
    if mark.exists() {
        return Ok(());
    }
    let made = fs::create_dir_all(place)
        .and_then(|()| fs::set_permissions(place, fs::Permissions::from_mode(0o777)))
        .and_then(|()| ownership::give(place, fs_group))
        .and_then(|()| fs::write(&mark, b""));
    made.map_err(|error| format!("{}: {error}", place.display()))
}

/// Mounts a tmpfs at `place` unless one is there.
pub fn mount_tmpfs(place: &Path, size_bytes: Option<i64>) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("mounting tmpfs at {}: {error}", place.display());
    fs::create_dir_all(place).map_err(|error| failed(&error))?;
    let is_tmpfs = |path: &Path| statfs(path).map(|stat| stat.filesystem_type() == TMPFS_MAGIC);
    let own_mount = || -> Result<bool, String> {
        use std::os::unix::fs::MetadataExt;
        let here = fs::metadata(place).map_err(|error| failed(&error))?.dev();
        let parent = fs::metadata(place.parent().unwrap_or(place)).map_err(|error| failed(&error))?.dev();
        Ok(here != parent)
    };
    if is_tmpfs(place).map_err(|error| failed(&error))? && own_mount()? {
        return Ok(());
    }
    let options = size_bytes.filter(|bytes| *bytes > 0).map(|bytes| format!("size={bytes}")).unwrap_or_default();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("tug-volume"), place, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|error| failed(&error))
}
