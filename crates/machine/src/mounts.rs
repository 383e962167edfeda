//! A machine's view of the host's files: the same everywhere, except what must be its own.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::cgroups::Hierarchy;
use crate::record::Machine;
use crate::{During, Result};

/// Directories that a machine has for itself, as it sees them; the first holds the others' sources.
const PRIVATE: &[&str] = &["/var/lib/tug", "/var/log/pods", "/var/log/containers", "/etc/cni", "/etc/tug", "/opt/cni"];

/// Makes the private directories, and the mount points for them on the host, in the host's mount namespace. Records the
/// mount points that weren't there, also when it fails: they go with the machine.
pub fn prepare(machine: &mut Machine) -> Result<()> {
    for path in PRIVATE {
        let own = private(machine, path);
        fs::create_dir_all(&own).during(format!("making {}", own.display()))?;
        let point = Path::new(path);
        for missing in point.ancestors().take_while(|p| !p.exists()) {
            if !machine.made_directories.iter().any(|made| made == missing) {
                machine.made_directories.push(missing.to_owned());
            }
        }
        fs::create_dir_all(point).during(format!("making {path}"))?;
    }
    let etc = machine.paths().state.join("root/etc");
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {}\n",
        machine.address, machine.name
    );
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let files = [("hosts", hosts), ("hostname", format!("{}\n", machine.name)), ("resolv.conf", resolv)];
    for (file, text) in files {
        fs::write(etc.join(file), text).during(format!("writing the machine's {file}"))?;
    }
    let sockets = machine.paths().sockets();
    fs::create_dir_all(&sockets).during(format!("making {}", sockets.display()))
}

fn private(machine: &Machine, path: &str) -> PathBuf {
    machine.paths().state.join("root").join(path.trim_start_matches('/'))
}

/// Lays the machine's own files over the host's. Runs as PID 1, in the machine's namespaces.
///
/// `hierarchies` are the host's, read before its `/sys` was covered; `host_netns` is an open descriptor of the host's
/// network namespace, kept at `/run/tug/host-netns` for dialing as the host does.
pub fn lay(machine: &Machine, hierarchies: &[Hierarchy], host_netns: &fs::File) -> Result<()> {
    // The host's later mounts appear here, ours don't appear there; what we mount propagates to our own containers.
    remount_tree(MsFlags::MS_SLAVE).during("detaching the machine's mounts from the host's")?;
    remount_tree(MsFlags::MS_SHARED).during("sharing the machine's mounts with its containers")?;

    let etc = machine.paths().state.join("root/etc");
    for file in ["hosts", "hostname"] {
        let target = Path::new("/etc").join(file);
        if target.exists() {
            bind(&etc.join(file), &target)?;
        }
    }
    let resolv = fs::read(etc.join("resolv.conf")).during("reading the machine's resolv.conf")?;
    let resolv_target = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| "/etc/resolv.conf".into());
    let resolv_in_run = resolv_target.starts_with("/run");
    if !resolv_in_run && resolv_target.exists() {
        bind(&etc.join("resolv.conf"), &resolv_target)?;
    }

    // Open before it is covered: the machine's socket directory stands in the host's /run.
    let sockets = machine.paths().sockets();
    let sockets = fs::File::open(&sockets).during(format!("opening {}", sockets.display()))?;
    mount_new("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    fs::create_dir("/run/tug").during("making /run/tug")?;
    let opened = |file: &fs::File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    bind(&opened(&sockets), Path::new("/run/tug"))?;
    fs::File::create("/run/tug/host-netns").during("making /run/tug/host-netns")?;
    bind(&opened(host_netns), Path::new("/run/tug/host-netns"))?;
    if let (true, Some(parent)) = (resolv_in_run, resolv_target.parent()) {
        // The host's file lies in its /run, which isn't seen here: put ours where the link points.
        fs::create_dir_all(parent).during(format!("making {}", parent.display()))?;
        fs::write(&resolv_target, resolv).during("writing the machine's resolv.conf")?;
    }

    // `/var/lib/tug` comes last: it covers the directories that the others are bound from.
    for path in PRIVATE.iter().rev() {
        bind(&private(machine, path), Path::new(path))?;
    }

    mount_new("proc", "/proc", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, "")?;
    mount_new("sysfs", "/sys", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, "")?;
    mount_cgroups(hierarchies)
}

/// Has `/run/tug/host-mntns` lead to PID 1's open descriptor of the host's mount namespace: a namespace can't be mounted in
/// one that was made after it.
pub fn link_host_mntns(host_mntns: &fs::File) -> Result<()> {
    let link = Path::new("/run/tug/host-mntns");
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(format!("/proc/1/fd/{}", host_mntns.as_raw_fd()), link),
    }
    .during(format!("making {}", link.display()))
}

fn mount_cgroups(hierarchies: &[Hierarchy]) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !hierarchies.iter().any(|h| h.mount_point == root) {
        mount_new("tmpfs", "/sys/fs/cgroup", flags, "mode=755")?;
    }
    for hierarchy in hierarchies {
        let point = &hierarchy.mount_point;
        fs::create_dir_all(point).during(format!("making {}", point.display()))?;
        mount_new(&hierarchy.kind, &point.to_string_lossy(), flags, &hierarchy.options)?;
        // Debian has `cpu` and `cpuacct` point to the directory of the two together.
        for controller in hierarchy.options.split(',').filter(|c| hierarchy.options.contains(',') && !c.contains('=')) {
            let name = point.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if controller != "none" && controller != name {
                match symlink(&name, root.join(controller)) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error).during(format!("linking the {controller} hierarchy"));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

fn remount_tree(flag: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, flag | MsFlags::MS_REC, None::<&str>)
}

/// What is mounted below one of the two later does not show below the other: each pod's mounts would be there twice, and
/// their table, which is read again and again to start a container, twice as long.
fn bind(source: &Path, target: &Path) -> Result<()> {
    let step = || format!("mounting {} on {}", source.display(), target.display());
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).during(step())?;
    for kind in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, target, None::<&str>, kind, None::<&str>).during(step())?;
    }
    Ok(())
}

fn mount_new(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, Some(options)).during(format!("mounting {kind} on {target}"))
}
