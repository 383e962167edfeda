//! A machine's place in the host's cgroup hierarchies, v1 or v2: `/tug-<name>` in each, which becomes the root that the
//! machine sees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{CGROUP_PREFIX, During, Result};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount_point: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub kind: String,
    /// What to mount it with again: `cpu,cpuacct` or `none,name=systemd`; empty for v2.
    pub options: String,
}

impl Hierarchy {
    fn is_v2(&self) -> bool {
        self.kind == "cgroup2"
    }

    /// The machine's cgroup here.
    pub fn directory(&self, machine: &str) -> PathBuf {
        self.mount_point.join(format!("{CGROUP_PREFIX}{machine}"))
    }
}

/// All hierarchies that are mounted below `/sys/fs/cgroup`.
pub fn mounted() -> Result<Vec<Hierarchy>> {
    let table = fs::read_to_string("/proc/self/mountinfo").during("reading /proc/self/mountinfo")?;
    Ok(parse(&table))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        // proc_pid_mountinfo(5): fields behind " - " are type, source and the superblock's options.
        let Some((mount, superblock)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = mount.split(' ').nth(4) else { continue };
        let mut fields = superblock.split(' ');
        let (Some(kind), Some(_), Some(options)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if !matches!(kind, "cgroup" | "cgroup2") || !mount_point.starts_with("/sys/fs/cgroup") {
            continue;
        }
        let mount_point = PathBuf::from(mount_point);
        if found.iter().any(|h| h.mount_point == mount_point) {
            continue;
        }
        let options = if kind == "cgroup2" { String::new() } else { v1_options(options) };
        found.push(Hierarchy { mount_point, kind: kind.into(), options });
    }
    found
}

/// Controllers and name of a v1 hierarchy from its superblock's options, such as `rw,cpu,cpuacct`.
fn v1_options(options: &str) -> String {
    let kept: Vec<&str> = options
        .split(',')
        .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "clone_children") && !o.starts_with("release_agent="))
        .collect();
    if kept.iter().all(|o| o.starts_with("name=")) { format!("none,{}", kept.join(",")) } else { kept.join(",") }
}

/// Makes the machine's cgroup in every hierarchy and moves the calling process there, so that the cgroup namespace that
/// it unshares next has them as roots.
pub fn enter(machine: &str) -> Result<()> {
    for hierarchy in mounted()? {
        if hierarchy.is_v2() {
            enable_all_controllers(&hierarchy.mount_point).during("enabling cgroup controllers for machines")?;
        }
        let directory = hierarchy.directory(machine);
        make(&directory).during(format!("making the cgroup {}", directory.display()))?;
        if hierarchy.options == "cpuset" {
            inherit_cpuset(&directory).during("giving the machine its processors")?;
        }
        if hierarchy.options.split(',').any(|o| o == "memory") {
            // Accounting of children in their parents; without it a pod's limit doesn't cover its containers.
            let _ignored_where_fixed = fs::write(directory.join("memory.use_hierarchy"), "1");
        }
        fs::write(directory.join("cgroup.procs"), "0")
            .during(format!("entering the cgroup {}", directory.display()))?;
    }
    Ok(())
}

/// On v2, inside the machine: processes may not stand in a cgroup that hands controllers to its children, so PID 1 moves
/// to a leaf first.
pub fn settle_inside() -> Result<()> {
    for hierarchy in mounted()?.into_iter().filter(Hierarchy::is_v2) {
        let leaf = hierarchy.mount_point.join("init");
        make(&leaf).during("making the init cgroup")?;
        fs::write(leaf.join("cgroup.procs"), "0").during("entering the init cgroup")?;
        enable_all_controllers(&hierarchy.mount_point).during("enabling the machine's cgroup controllers")?;
    }
    Ok(())
}

/// Inside the machine: moves a process to the cgroup `/<leaf>` of every hierarchy.
pub fn place(pid: u32, leaf: &str) -> Result<()> {
    for hierarchy in mounted()? {
        let directory = hierarchy.mount_point.join(leaf);
        make(&directory).during(format!("making the cgroup {}", directory.display()))?;
        if hierarchy.options == "cpuset" {
            inherit_cpuset(&directory).during("giving the server its processors")?;
        }
        fs::write(directory.join("cgroup.procs"), pid.to_string())
            .during(format!("entering {}", directory.display()))?;
    }
    Ok(())
}

/// Removes the machine's cgroups with all below them. Their processes must have ended.
pub fn remove(machine: &str) -> Result<()> {
    for hierarchy in mounted()? {
        let directory = hierarchy.directory(machine);
        remove_tree(&directory).during(format!("removing the cgroup {}", directory.display()))?;
    }
    Ok(())
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn enable_all_controllers(directory: &Path) -> io::Result<()> {
    let available = fs::read_to_string(directory.join("cgroup.controllers"))?;
    for controller in available.split_ascii_whitespace() {
        // One at a time: a controller that a realtime process or a thread holds back must not stop the others.
        if let Err(error) = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::warn!(controller, %error, "a cgroup controller can't be enabled");
        }
    }
    Ok(())
}

fn inherit_cpuset(directory: &Path) -> io::Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(directory.join(file))?.trim().is_empty() {
            fs::write(directory.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let table = "\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 25 0:30 / /elsewhere rw - cgroup cgroup rw,pids
";
        let found: Vec<_> = parse(table).into_iter().map(|h| (h.mount_point, h.kind, h.options)).collect();
        let expected = [
            ("/sys/fs/cgroup/unified", "cgroup2", ""),
            ("/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"),
            ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"),
        ];
        assert_eq!(found, expected.map(|(m, k, o)| (PathBuf::from(m), k.to_owned(), o.to_owned())));
    }
}
