//! subPath: part of a volume. A container that writes to the volume must not lead the mount out of it by a symbolic
//! link, so the path is opened part by part without following links and what was opened is bound to a place of the
//! kubelet's own, which is what the container gets.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

/// Binds `sub_path` of `volume` at `place` and gives `place`; makes a directory of what isn't there.
///
/// # Errors
/// If the path leaves the volume.
pub fn bind_sub_path(volume: &Path, sub_path: &str, place: PathBuf) -> Result<PathBuf, String> {
    let failed = |what: String| format!("failed to prepare subPath for volumeMount: {what}");
    let wanted = Path::new(sub_path);
    if wanted.is_absolute() || wanted.components().any(|part| part == Component::ParentDir) {
        return Err(failed(format!("unable to provision SubPath `{sub_path}`")));
    }
    let root = fs::canonicalize(volume).map_err(|error| failed(error.to_string()))?;
    // Links are resolved once, as they are now; the walk below then refuses any.
    let inside = match fs::canonicalize(root.join(wanted)) {
        Ok(resolved) => resolved
            .strip_prefix(&root)
            .map(Path::to_path_buf)
            .map_err(|_| failed(format!("subpath {:?} not within volume path {:?}", resolved, root)))?,
        Err(_) => wanted.to_path_buf(),
    };
    // What is made is as open as the volume, as upstream has it.
    let mode = fs::metadata(&root).map_err(|error| failed(error.to_string()))?.permissions().mode();
    let found = walk(&root, &inside, Mode::from_bits_truncate(mode & 0o777))
        .map_err(|error| failed(format!("{}: {error}", inside.display())))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let is_directory = fs::metadata(&source).map_err(|error| failed(error.to_string()))?.is_dir();
    make_place(&place, is_directory).map_err(|error| failed(error.to_string()))?;
    mount(Some(&source), &place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| failed(error.to_string()))?;
    Ok(place)
}

fn walk(root: &Path, inside: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = open(root, flags | OFlag::O_DIRECTORY, Mode::empty())?;
    for part in inside.components() {
        let Component::Normal(name) = part else { continue };
        at = match openat(&at, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let made = match mkdirat(&at, name, mode) {
                    Ok(()) => true,
                    Err(Errno::EEXIST) => false,
                    Err(error) => return Err(error),
                };
                let directory = openat(&at, name, flags | OFlag::O_DIRECTORY, Mode::empty())?;
                if made {
                    // The process's mask has no say. A descriptor opened as a path has no mode to change itself.
                    let own = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
                    fs::set_permissions(own, fs::Permissions::from_mode(mode.bits())).map_err(errno)?;
                }
                directory
            }
            other => other?,
        };
        // O_PATH with O_NOFOLLOW opens a link itself: that is a way out.
        let kind = nix::sys::stat::fstat(&at)?.st_mode & nix::libc::S_IFMT;
        if kind == nix::libc::S_IFLNK {
            return Err(Errno::ELOOP);
        }
    }
    Ok(at)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// What a former start of the container left mounted there is taken off first.
fn make_place(place: &Path, is_directory: bool) -> std::io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    while umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    if is_directory {
        return fs::create_dir_all(place);
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(place).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_inside_only() {
        let dir = std::env::temp_dir().join(format!("tug-subpath-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("out")).unwrap();
        let mode = Mode::from_bits_truncate(0o777);
        assert!(walk(&dir, Path::new("real/file"), mode).is_ok());
        assert!(walk(&dir, Path::new("made/deep"), mode).is_ok());
        for made in ["made", "made/deep"] {
            assert_eq!(fs::metadata(dir.join(made)).unwrap().permissions().mode() & 0o7777, 0o777, "{made}");
        }
        assert_eq!(walk(&dir, Path::new("out"), mode).unwrap_err(), Errno::ELOOP);
        assert!(walk(&dir, Path::new("out/passwd"), mode).is_err());
        let place = dir.join("place");
        for path in ["../x", "/etc", "out", "out/passwd", "real/../../x"] {
            assert!(bind_sub_path(&dir, path, place.clone()).is_err(), "{path}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
