//! What must hold before anything is made: root, and a kernel with what containers need. Each miss is named with what to
//! do about it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

/// # Errors
/// When the caller isn't root; says how to become it.
pub fn require_root(command: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("tug {command} needs root, to make namespaces, mounts and network links; try: sudo tug {command}");
    }
    Ok(())
}

/// # Errors
/// With all that is missing, a line each.
pub fn require_kernel() -> Result<()> {
    let mut missing = Vec::new();
    for (kind, option) in [
        ("mnt", "CONFIG_NAMESPACES"),
        ("pid", "CONFIG_PID_NS"),
        ("net", "CONFIG_NET_NS"),
        ("uts", "CONFIG_UTS_NS"),
        ("ipc", "CONFIG_IPC_NS"),
        ("cgroup", "CONFIG_CGROUPS"),
    ] {
        if !Path::new("/proc/self/ns").join(kind).exists() {
            missing.push(format!("{kind} namespaces ({option})"));
        }
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_filesystem = |name: &str| filesystems.lines().any(|line| line.split_whitespace().next_back() == Some(name));
    if !has_filesystem("overlay") && !loadable("overlay") {
        missing.push("overlayfs (CONFIG_OVERLAY_FS; try: modprobe overlay)".into());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.contains(" - cgroup2 ") && !mounts.contains(" - cgroup ") {
        missing.push("mounted cgroups (mount -t cgroup2 cgroup2 /sys/fs/cgroup)".into());
    } else {
        missing.extend(tug_shim::cgroup::missing());
    }
    match tug_network::features::missing() {
        Ok(options) => missing.extend(options.into_iter().map(String::from)),
        Err(error) => missing.push(error.to_string()),
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this kernel lacks what containers need:\n  {}", missing.join("\n  "))
}

/// A database that can't grow can't acknowledge a write; better no start than one that fails at its first.
const LEAST_SPACE_MIB: u64 = 16;

/// # Errors
/// When the data directory's disk is full, or as good as.
pub fn require_space(data_dir: &Path) -> Result<()> {
    fs::create_dir_all(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
    let disk = statvfs(data_dir).with_context(|| format!("looking at the disk of {}", data_dir.display()))?;
    let left = (disk.blocks_available() * disk.fragment_size()) >> 20;
    if left < LEAST_SPACE_MIB {
        bail!("the disk of {} is full: {left} MiB are left, {LEAST_SPACE_MIB} are needed", data_dir.display());
    }
    Ok(())
}

/// Images' layers and containers' changes to them are put together by overlayfs, which not every file system can hold.
///
/// # Errors
/// When it can't be tried, or the data directory's file system is no good for it; says what is.
pub fn require_overlay(data_dir: &Path) -> Result<()> {
    let place = data_dir.join("overlay-check");
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| place.join(name));
    // A server that was killed here has left its mount.
    match umount2(&merged, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmounting {}", merged.display())),
    }
    for directory in [&lower, &upper, &work, &merged] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mounted = mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    if mounted.is_ok() {
        umount2(&merged, MntFlags::MNT_DETACH).with_context(|| format!("unmounting {}", merged.display()))?;
    }
    fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    mounted.with_context(|| {
        format!(
            "the file system of {} can't hold overlayfs' upper layers; choose a directory on ext4, xfs or btrfs",
            data_dir.display()
        )
    })
}

/// Whether the kernel can load the module at its first use.
fn loadable(module: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let index = Path::new("/lib/modules").join(release.trim()).join("modules.dep");
    fs::read_to_string(index).is_ok_and(|index| index.contains(&format!("/{module}.ko")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_server_left_of_its_look_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("overlay-check");
        let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| place.join(name));
        for directory in [&lower, &upper, &work, &merged] {
            fs::create_dir_all(directory).expect("made");
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).expect("mounted");
        require_overlay(dir.path()).expect("it is put right");
        assert!(!place.exists());
    }
}
