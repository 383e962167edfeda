//! Control groups by path, in either layout: one v1 hierarchy a controller, or the single v2 hierarchy. A machine with
//! v1 controllers and an empty v2 tree beside them (systemd's hybrid) counts as v1, as it does for the OCI runtime.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    V1,
    V2,
}

/// Which layout this machine has.
pub fn layout() -> Layout {
    match Path::new(ROOT).join("cgroup.controllers").exists() {
        true => Layout::V2,
        false => Layout::V1,
    }
}

/// What containers can't be without, and the kernel's option for it.
const CONTROLLERS: [(&str, &str); 4] = [
    ("cpu", "CONFIG_CGROUP_SCHED"),
    ("cpuset", "CONFIG_CPUSETS"),
    ("memory", "CONFIG_MEMCG"),
    ("pids", "CONFIG_CGROUP_PIDS"),
];

/// What control groups lack here to hold containers, each with what to do about it.
pub fn missing() -> Vec<String> {
    let root = Path::new(ROOT);
    let listed = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let v2 = layout() == Layout::V2;
    let has = |list: &str, name: &str| list.split_whitespace().any(|known| known == name);
    let available = |name: &str| match v2 {
        true => has(&listed("cgroup.controllers"), name),
        false => root.join(name).join("cgroup.procs").exists(),
    };
    let lacking = CONTROLLERS.iter().filter(|(name, _)| !available(name));
    let mut missing: Vec<_> =
        lacking.map(|(name, option)| format!("the cgroup controller {name} ({option})")).collect();
    if v2 {
        // A group with processes in it hands on no controllers, unless it is the kernel's root, which has no type: a
        // container's, whose runtime gave it control groups of its own.
        let busy = root.join("cgroup.type").exists() && !listed("cgroup.procs").trim().is_empty();
        let handed_on = listed("cgroup.subtree_control");
        if busy && missing.is_empty() && CONTROLLERS.iter().any(|(name, _)| !has(&handed_on, name)) {
            missing.push(format!(
                "a cgroup root without processes; move them: mkdir -p {ROOT}/init && \
                 xargs -rn1 < {ROOT}/cgroup.procs > {ROOT}/init/cgroup.procs"
            ));
        }
        if let Err(err) = crate::devices::probe() {
            missing.push(format!("programs for device rules (CONFIG_CGROUP_BPF): {err}"));
        }
    } else if !available("devices") {
        missing.push("the cgroup controller devices (CONFIG_CGROUP_DEVICE)".into());
    }
    missing
}

/// The directories of a control group: one a hierarchy on v1. Links such as `cpu -> cpu,cpuacct` are left out.
pub fn directories(cgroup: &str) -> Vec<PathBuf> {
    let relative = cgroup.trim_start_matches('/');
    if layout() == Layout::V2 {
        return vec![Path::new(ROOT).join(relative)];
    }
    hierarchies().into_iter().map(|(_, root)| root.join(relative)).collect()
}

/// A v1 controller's directory of a control group, or the one directory on v2.
pub fn directory(cgroup: &str, controller: &str) -> PathBuf {
    let root = Path::new(ROOT);
    let relative = cgroup.trim_start_matches('/');
    match layout() {
        Layout::V2 => root.join(relative),
        Layout::V1 => root.join(controller).join(relative),
    }
}

fn hierarchies() -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, path)| name != "unified" && path.join("cgroup.procs").exists())
        .collect();
    found.sort();
    found
}

/// Makes a control group, on v2 with its controllers switched on for it, on v1 with its cpuset filled in.
///
/// # Errors
/// When a directory can't be made; a controller that can't be switched on is left off.
pub fn create(cgroup: &str) -> io::Result<()> {
    let relative = Path::new(cgroup.trim_start_matches('/'));
    match layout() {
        Layout::V2 => {
            let mut path = PathBuf::from(ROOT);
            for part in relative.components() {
                delegate(&path);
                path.push(part);
                make(&path)?;
            }
        }
        Layout::V1 => {
            for (controller, root) in hierarchies() {
                let mut path = root;
                for part in relative.components() {
                    let parent = path.clone();
                    path.push(part);
                    make(&path)?;
                    if controller.split(',').any(|name| name == "cpuset") {
                        inherit(&parent, &path, "cpuset.cpus")?;
                        inherit(&parent, &path, "cpuset.mems")?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Switches on for a v2 group's children all the controllers it has itself.
fn delegate(path: &Path) {
    let Ok(controllers) = fs::read_to_string(path.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        // One at a time: a controller that refuses (cpu with real-time threads, say) must not take the others along.
        drop(fs::write(path.join("cgroup.subtree_control"), format!("+{controller}")));
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(err.kind(), format!("cgroup {}: {err}", path.display())))
        }
        _ => Ok(()),
    }
}

fn inherit(parent: &Path, child: &Path, file: &str) -> io::Result<()> {
    if !fs::read_to_string(child.join(file))?.trim().is_empty() {
        return Ok(());
    }
    fs::write(child.join(file), fs::read_to_string(parent.join(file))?.trim())
}

/// Moves a process in.
///
/// # Errors
/// When the group does not exist or the kernel refuses.
pub fn enter(cgroup: &str, pid: u32) -> io::Result<()> {
    for directory in directories(cgroup) {
        fs::write(directory.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

/// v1 hierarchies that the OCI library makes groups in and moves processes to.
const OF_LIBRARY: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// Makes a container's group where the OCI library does not, and moves this process in: systemd's own hierarchy,
/// above all, would otherwise count its processes to the shim's group.
///
/// # Errors
/// When the kernel refuses.
pub fn enter_others(cgroup: &str) -> io::Result<()> {
    if layout() == Layout::V2 {
        return Ok(());
    }
    for (controllers, root) in hierarchies() {
        if controllers.split(',').all(|name| !OF_LIBRARY.contains(&name)) {
            let directory = root.join(cgroup.trim_start_matches('/'));
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("cgroup.procs"), "0")?;
        }
    }
    Ok(())
}

/// Processes in a control group and those below it.
pub fn processes(cgroup: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for directory in directories(cgroup) {
        collect(&directory, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(directory: &Path, found: &mut Vec<u32>) {
    if let Ok(procs) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for child in children(directory) {
        collect(&child, found);
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// SIGKILL to every process in a control group, also to those forked meanwhile.
pub fn kill(cgroup: &str) {
    if layout() == Layout::V2 && fs::write(directory(cgroup, "").join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // What v1 has frozen dies only once it is thawed. It may never have been frozen, or be gone.
    let _ = set_frozen(cgroup, false);
    kill_those(cgroup, |_| true);
}

/// Asks the kernel to freeze a control group or to let it go on; it has done so once [`is_frozen`] says it.
///
/// # Errors
/// When it isn't there.
pub fn set_frozen(cgroup: &str, frozen: bool) -> io::Result<()> {
    match layout() {
        Layout::V1 => {
            fs::write(directory(cgroup, "freezer").join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
        }
        Layout::V2 => fs::write(directory(cgroup, "").join("cgroup.freeze"), if frozen { "1" } else { "0" }),
    }
}

/// Whether all processes of a control group stand still.
///
/// # Errors
/// When it isn't there.
pub fn is_frozen(cgroup: &str) -> io::Result<bool> {
    match layout() {
        Layout::V1 => {
            let state = fs::read_to_string(directory(cgroup, "freezer").join("freezer.state"))?;
            Ok(state.trim() == "FROZEN")
        }
        Layout::V2 => Ok(fs::read_to_string(directory(cgroup, "").join("cgroup.events"))?.contains("frozen 1")),
    }
}

/// SIGKILL to the processes of one session in a control group.
pub fn kill_session(cgroup: &str, session: i32) {
    kill_those(cgroup, |pid| session_of(pid) == Some(session));
}

fn session_of(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the program's name, which may hold anything: state, parent, process group, session.
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

fn kill_those(cgroup: &str, wanted: impl Fn(u32) -> bool) {
    // A process can fork between the listing and its kill, but not for ever: its children are found the next time.
    for _ in 0..16 {
        let mut pids = processes(cgroup);
        pids.retain(|pid| wanted(*pid));
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // Gone already is as good as killed.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Removes a control group and those below it, as far as they are empty of processes.
///
/// # Errors
/// When a process is still in it.
pub fn remove(cgroup: &str) -> io::Result<()> {
    let mut result = Ok(());
    for directory in directories(cgroup) {
        if let Err(err) = remove_tree(&directory) {
            result = Err(err);
        }
    }
    result
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// How many processes the kernel has killed for want of memory in this group.
pub fn oom_kills(cgroup: &str) -> u64 {
    let file = match layout() {
        Layout::V2 => "memory.events",
        Layout::V1 => "memory.oom_control",
    };
    let text = fs::read_to_string(directory(cgroup, "memory").join(file)).unwrap_or_default();
    counter(&text, "oom_kill")
}

/// Value of a `name value` line.
pub fn counter(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
