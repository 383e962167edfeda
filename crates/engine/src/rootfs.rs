//! A container's root: the image's layers, shared and read-only, under a writable layer of its own.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::engine::{Error, Result};

/// The kernel copies at most a page of mount options.
const OPTION_BYTES: usize = 4095;

/// Directories of a container.
pub struct Rootfs {
    dir: PathBuf,
}

impl Rootfs {
    pub fn new(dir: PathBuf) -> Self {
        Rootfs { dir }
    }

    pub fn merged(&self) -> PathBuf {
        self.dir.join("merged")
    }

    /// Where all that differs from the image lies.
    pub fn changes(&self) -> PathBuf {
        self.dir.join("diff")
    }

    /// Makes the writable layer.
    pub fn create(&self) -> io::Result<()> {
        for name in ["diff", "work", "merged"] {
            fs::create_dir_all(self.dir.join(name))?;
        }
        Ok(())
    }

    /// Mounts it unless it is mounted.
    ///
    /// # Errors
    /// Says so when the file system of the data directory can't hold a writable layer.
    pub fn mount(&self, layers: &[PathBuf]) -> Result<()> {
        if is_mount_point(&self.merged()) {
            return Ok(());
        }
        let lower: Vec<String> = layers.iter().map(|layer| escaped(layer)).collect();
        let (upper, work) = (escaped(&self.changes()), escaped(&self.dir.join("work")));
        let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
        let mounted = if options.len() <= OPTION_BYTES {
            mount(Some("overlay"), &self.merged(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .map_err(io::Error::from)
        } else {
            self.mount_many(layers)
        };
        mounted.map_err(|err| {
            let mut message = format!("overlayfs in {}: {err}", self.dir.display());
            if err.raw_os_error() == Some(nix::libc::EINVAL) {
                message += ": the data directory's file system can't hold an overlayfs upper layer; \
                            choose a directory on ext4, xfs or btrfs";
            }
            Error::Failed { step: "mount the container's root", message }
        })?;
        // What a container with shared mounts mounts inside its root is not to appear here.
        mount(None::<&str>, &self.merged(), None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(|err| Error::Failed { step: "mount the container's root", message: err.to_string() })
    }

    /// Keeps the writable layer.
    pub fn unmount(&self) -> Result<()> {
        unmount(&self.merged())
    }

    /// With more layers than fit in a page each goes in by itself, which needs Linux 6.7.
    fn mount_many(&self, layers: &[PathBuf]) -> io::Result<()> {
        use rustix::mount::{
            FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount,
            fsopen, move_mount,
        };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for layer in layers {
            fsconfig_set_string(&context, "lowerdir+", layer)?;
        }
        fsconfig_set_string(&context, "upperdir", self.changes())?;
        fsconfig_set_string(&context, "workdir", self.dir.join("work"))?;
        fsconfig_create(&context)?;
        let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&made, "", rustix::fs::CWD, self.merged(), flags)?)
    }

    /// Makes a directory inside, with its parents, owned by `uid` and `gid` where it is new.
    pub fn create_dir(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let root = rustix::fs::open(self.merged(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut made = PathBuf::new();
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let parent = if made.as_os_str().is_empty() { Path::new(".") } else { &made };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // Links are followed, but only inside the container's root.
            let parent = rustix::fs::openat2(&root, parent, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => rustix::fs::chownat(
                    &parent,
                    name,
                    Some(rustix::fs::Uid::from_raw(uid)),
                    Some(rustix::fs::Gid::from_raw(gid)),
                    rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                )?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
            made.push(name);
        }
        Ok(())
    }
}

/// Commas and colons separate overlayfs' options and layers.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// Another device, or the same one mounted again, than what the directory's parent is on.
pub fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(parent)) => own != parent,
        _ => false,
    }
}

/// Unmounts what is mounted at `path`, in use or not; nothing there is as good.
pub fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(err) => Err(Error::Failed { step: "unmount", message: format!("{}: {err}", path.display()) }),
    }
}

/// Unmounts and removes a container's directory.
pub fn discard(dir: &Path) -> Result<()> {
    unmount(&dir.join("merged"))?;
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::Failed { step: "remove", message: format!("{}: {err}", dir.display()) })
        }
        _ => Ok(()),
    }
}
