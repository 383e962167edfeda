//! fsGroup: a volume's files belong to the pod's group (upstream's `SetVolumeOwnership`).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const SET_GID: u32 = 0o2000;

/// For volumes that containers write to.
pub fn give(root: &Path, group: Option<u32>) -> io::Result<()> {
    group.map_or(Ok(()), |group| walk(root, group, 0o660, 0o770 | SET_GID))
}

/// For volumes whose files the kubelet alone writes.
pub fn give_read_only(root: &Path, group: Option<u32>) -> io::Result<()> {
    group.map_or(Ok(()), |group| walk(root, group, 0o440, 0o550 | SET_GID))
}

fn walk(path: &Path, group: u32, file_mode: u32, directory_mode: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.gid() != group {
        lchown(path, None, Some(group))?;
    }
    if meta.is_symlink() {
        return Ok(());
    }
    let wanted = meta.mode() | if meta.is_dir() { directory_mode } else { file_mode };
    // A change of group clears set-gid, so the mode comes after it.
    fs::set_permissions(path, fs::Permissions::from_mode(wanted & 0o7777))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group, file_mode, directory_mode)?;
        }
    }
    Ok(())
}
