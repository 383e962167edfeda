//! What must hold before anything is made: root, and a kernel with what containers need. Each miss is named with what to
//! do about it.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

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

/// Whether the kernel can load the module at its first use.
fn loadable(module: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let index = Path::new("/lib/modules").join(release.trim()).join("modules.dep");
    fs::read_to_string(index).is_ok_and(|index| index.contains(&format!("/{module}.ko")))
}
