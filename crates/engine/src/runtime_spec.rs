//! The OCI runtime configuration of a container: what Docker would have written, from the request and the image.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};
use tug_shim::cgroup;
use tug_shim::confine::{Confinement, Propagation};

use crate::engine::{Error, Result};
use crate::filter::Filters;
use crate::spec::{ContainerSpec, Limits, MaskedPaths, Mount, SandboxSpec, Seccomp, ThrottleKind};
use crate::users::User;
use crate::{capabilities, propagation, seccomp};

/// `PATH` where neither image nor request sets one; Docker's.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's and the kubelet's masked paths.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container's configuration is made from besides its own request.
pub struct Surroundings<'a> {
    pub sandbox: &'a SandboxSpec,
    pub image: &'a ImageConfiguration,
    /// Where its root is mounted.
    pub rootfs: &'a Path,
    pub user: &'a User,
    pub cgroup: &'a str,
    /// Directory with the sandbox's bound namespaces.
    pub namespaces: &'a Path,
    /// Its network and IPC namespaces, which may be another's.
    pub net: &'a Path,
    pub ipc: &'a Path,
    /// The sandbox's `/dev/shm`.
    pub shm: &'a Path,
    /// Pid namespace to join instead of making one.
    pub pid_namespace: Option<PathBuf>,
}

/// The `config.json` of a container, but for what its shim does itself ([`confinement`]).
///
/// # Errors
/// No command, a device that is not there.
pub fn container(spec: &ContainerSpec, around: &Surroundings<'_>) -> Result<Value> {
    let process = process(spec, around)?;
    let mut linux = json!({
        "namespaces": namespaces(spec, around),
        "cgroupsPath": around.cgroup,
        "resources": resources(spec, around.cgroup)?,
    });
    if spreads(spec) {
        // Mounts that are to go back to the host need a root that lets them. Otherwise it is a slave, the OCI runtime's
        // default: what the host unmounts must not live on in its containers.
        linux["rootfsPropagation"] = json!("shared");
    }
    if !spec.sysctls.is_empty() {
        linux["sysctl"] = json!(spec.sysctls);
    }
    let devices = devices(spec)?;
    if !devices.is_empty() {
        linux["devices"] = json!(devices);
    }
    let (masked, read_only) = match &spec.masked_paths {
        _ if spec.privileged => Default::default(),
        MaskedPaths::Default => (json!(MASKED), json!(READ_ONLY)),
        MaskedPaths::Unmasked => Default::default(),
        MaskedPaths::These { masked, read_only } => (json!(masked), json!(read_only)),
    };
    for (name, paths) in [("maskedPaths", masked), ("readonlyPaths", read_only)] {
        if !paths.is_null() {
            linux[name] = paths;
        }
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": around.rootfs, "readonly": spec.readonly_rootfs },
        "mounts": mounts(spec, around),
        "linux": linux,
    });
    if !spec.annotations.is_empty() {
        config["annotations"] = json!(spec.annotations);
    }
    Ok(config)
}

/// What the shim confines a container to.
///
/// # Errors
/// An unknown capability, a profile that is not there or none.
pub fn confinement(spec: &ContainerSpec, filters: &Filters) -> Result<Confinement> {
    let capabilities = capabilities::granted(spec.privileged, &spec.cap_add, &spec.cap_drop)?;
    let profile = match &spec.seccomp {
        _ if spec.privileged => None,
        Seccomp::Default => Some(seccomp::default_profile(&capabilities)),
        Seccomp::File(path) => Some(seccomp::from_file(path, &capabilities)?),
        Seccomp::Unconfined => None,
    };
    Ok(Confinement {
        capabilities: capabilities::bits(&capabilities),
        filter: profile.map(|profile| filters.of(&profile)).transpose()?,
        no_new_privileges: spec.no_new_privileges,
        propagation: propagation::of(&spec.mounts)?,
    })
}

fn process(spec: &ContainerSpec, around: &Surroundings<'_>) -> Result<Value> {
    let user = around.user.identity(&spec.supplemental_groups);
    let mut process = json!({
        "terminal": spec.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": arguments(spec, around.image)?,
        "env": environment(spec, around),
        "cwd": working_dir(spec, around.image),
    });
    if spec.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    if !spec.rlimits.is_empty() {
        let limit = |limit: &crate::spec::Rlimit| json!({"type": limit.name, "soft": limit.soft, "hard": limit.hard});
        process["rlimits"] = spec.rlimits.iter().map(limit).collect();
    }
    // The container must not inherit its shim's protection. Where a score can't be lowered, it is not.
    let score = spec.oom_score_adj.unwrap_or(0);
    process["oomScoreAdj"] = json!(if capabilities::may_lower_oom_score() { score } else { score.max(0) });
    Ok(process)
}

/// A request's entry point without arguments drops the image's arguments, as with Docker and Kubernetes.
fn arguments(spec: &ContainerSpec, image: &ImageConfiguration) -> Result<Vec<String>> {
    let config = image.config().as_ref();
    let image_entrypoint = config.and_then(|config| config.entrypoint().clone()).unwrap_or_default();
    let image_args = config.and_then(|config| config.cmd().clone()).unwrap_or_default();
    let arguments = match (&spec.entrypoint, &spec.args) {
        (None, None) => [image_entrypoint, image_args].concat(),
        (None, Some(args)) => [image_entrypoint, args.clone()].concat(),
        (Some(entrypoint), None) => entrypoint.clone(),
        (Some(entrypoint), Some(args)) => [entrypoint.clone(), args.clone()].concat(),
    };
    match arguments.is_empty() {
        true => Err(Error::Invalid("no command specified".into())),
        false => Ok(arguments),
    }
}

pub fn working_dir(spec: &ContainerSpec, image: &ImageConfiguration) -> String {
    let of_image = || image.config().as_ref().and_then(|config| config.working_dir().clone());
    let dir = spec.working_dir.clone().filter(|dir| !dir.is_empty()).or_else(of_image).unwrap_or_default();
    match dir.starts_with('/') {
        true => dir,
        false => format!("/{dir}"),
    }
}

fn environment(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<String> {
    let of_image = around.image.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default();
    let mut base = vec![PATH.to_owned()];
    if !around.sandbox.hostname.is_empty() {
        base.push(format!("HOSTNAME={}", around.sandbox.hostname));
    }
    if spec.tty {
        base.push("TERM=xterm".to_owned());
    }
    let home = format!("HOME={}", around.user.home);
    merged_env([base, vec![home], of_image, spec.env.clone()])
}

/// Lists of `NAME=value`, the later ones overriding the earlier; a name keeps its first place.
pub fn merged_env(lists: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for entry in lists.into_iter().flatten() {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(&place) => order[place] = entry,
            None => {
                places.insert(name, order.len());
                order.push(entry);
            }
        }
    }
    order
}

fn namespaces(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<Value> {
    let sandbox = around.sandbox;
    let mut namespaces = vec![json!({"type": "mount"})];
    let mut join = |kind: &str, path: &Path| namespaces.push(json!({"type": kind, "path": path}));
    if !sandbox.host_network {
        join("network", around.net);
    }
    if !sandbox.host_ipc {
        join("ipc", around.ipc);
    }
    let uts = around.namespaces.join("uts");
    if uts.exists() {
        join("uts", &uts);
    }
    match &around.pid_namespace {
        Some(path) => namespaces.push(json!({"type": "pid", "path": path})),
        None if sandbox.share_pid => join("pid", &around.namespaces.join("pid")),
        None if sandbox.host_pid => {}
        None => namespaces.push(json!({"type": "pid"})),
    }
    if !spec.privileged && !spec.host_cgroups {
        namespaces.push(json!({"type": "cgroup"}));
    }
    namespaces
}

fn mounts(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<Value> {
    let sys_option = if spec.privileged { "rw" } else { "ro" };
    let own = [
        ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/dev/mqueue", "mqueue", "mqueue", vec!["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", vec!["nosuid", "noexec", "nodev", sys_option]),
    ];
    let requested = |target: &str| spec.mounts.iter().any(|mount| mount.target == Path::new(target));
    let mut mounts: Vec<Value> = own
        .into_iter()
        .filter(|(target, ..)| !requested(target))
        .map(|(target, kind, source, options)| {
            json!({"destination": target, "type": kind, "source": source, "options": options})
        })
        .collect();
    if !requested(cgroup::ROOT) {
        mounts.extend(control_groups(around.cgroup, sys_option, spreads(spec)));
    }
    if !requested("/dev/shm") {
        let options = ["rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"];
        mounts.push(json!({"destination": "/dev/shm", "type": "bind", "source": around.shm, "options": options}));
    }
    // A parent before what is mounted inside it, whatever the order of the request.
    let mut given: Vec<&Mount> = spec.mounts.iter().collect();
    given.sort_by_key(|mount| mount.target.components().count());
    mounts.extend(given.into_iter().map(|mount| {
        let mut options = mount.options.clone();
        if mount.kind == "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.insert(0, "rbind".into());
        }
        json!({"destination": mount.target, "type": mount.kind, "source": mount.source, "options": options})
    }));
    mounts
}

/// The container's own control groups. On v1 they are bound here, for the OCI library mounts them writable whatever it is
/// asked, and not at all where it takes a number in a shared pid namespace for one of the node's.
fn control_groups(own: &str, sys_option: &str, spreads: bool) -> Vec<Value> {
    if cgroup::layout() == cgroup::Layout::V2 {
        let options = ["nosuid", "noexec", "nodev", "relatime", sys_option];
        return vec![json!({"destination": cgroup::ROOT, "type": "cgroup", "source": "cgroup", "options": options})];
    }
    let bind = |source: &Path, target: &Path, access: &str| {
        let options = ["bind", "nosuid", "noexec", "nodev", "relatime", access];
        json!({"destination": target, "type": "bind", "source": source, "options": options})
    };
    let root = Path::new(cgroup::ROOT);
    let below = if spreads {
        // What is mounted on the node's would come back over the node's own control groups.
        json!({"destination": root, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "nodev", "mode=755"]})
    } else {
        // The node's has the directories to mount on, and the names of controllers that share a hierarchy.
        bind(root, root, "ro")
    };
    let hierarchies = cgroup::directories("/").into_iter().zip(cgroup::directories(own));
    let groups = hierarchies.map(|(hierarchy, group)| bind(&group, &hierarchy, sys_option));
    std::iter::once(below).chain(groups).collect()
}

/// Whether a mount made in the container is to show on the node.
fn spreads(spec: &ContainerSpec) -> bool {
    spec.mounts.iter().any(|mount| propagation::asked(mount) == Some(Propagation::Shared))
}

fn resources(spec: &ContainerSpec, cgroup: &str) -> Result<Value> {
    let mut resources = limits(&spec.limits);
    if cgroup::layout() == cgroup::Layout::V2 {
        resources["unified"] = unified(&spec.limits, cgroup);
    }
    if spec.limits.block_io_weight > 0 || !spec.limits.block_io_throttles.is_empty() {
        resources["blockIO"] = block_io(&spec.limits)?;
    }
    resources["devices"] = json!(device_rules(spec)?);
    Ok(resources)
}

fn block_io(limits: &Limits) -> Result<Value> {
    let mut block_io = json!({});
    if limits.block_io_weight > 0 {
        block_io["weight"] = json!(limits.block_io_weight);
    }
    for throttle in &limits.block_io_throttles {
        let name = match throttle.kind {
            ThrottleKind::ReadBytes => "throttleReadBpsDevice",
            ThrottleKind::WriteBytes => "throttleWriteBpsDevice",
            ThrottleKind::ReadOperations => "throttleReadIOPSDevice",
            ThrottleKind::WriteOperations => "throttleWriteIOPSDevice",
        };
        let node = node(&throttle.device)?;
        let rule = json!({"major": node.major, "minor": node.minor, "rate": throttle.rate});
        match block_io[name].as_array_mut() {
            Some(rules) => rules.push(rule),
            None => block_io[name] = json!([rule]),
        }
    }
    Ok(block_io)
}

/// `linux.resources` without devices.
fn limits(limits: &Limits) -> Value {
    let mut memory = json!({});
    for (name, bytes) in [
        ("limit", limits.memory_bytes),
        ("swap", limits.memory_swap_bytes),
        ("reservation", limits.memory_reservation_bytes),
    ] {
        if bytes > 0 {
            memory[name] = json!(bytes);
        }
    }
    if limits.no_oom_kill {
        memory["disableOOMKiller"] = json!(true);
    }
    if let Some(swappiness) = limits.swappiness {
        memory["swappiness"] = json!(swappiness);
    }
    let mut cpu = json!({});
    if limits.cpu_shares > 0 {
        cpu["shares"] = json!(limits.cpu_shares);
    }
    if limits.cpu_quota_micros != 0 {
        cpu["quota"] = json!(limits.cpu_quota_micros);
    }
    if limits.cpu_period_micros > 0 {
        cpu["period"] = json!(limits.cpu_period_micros);
    }
    if !limits.cpuset_cpus.is_empty() {
        cpu["cpus"] = json!(limits.cpuset_cpus);
    }
    if !limits.cpuset_mems.is_empty() {
        cpu["mems"] = json!(limits.cpuset_mems);
    }
    let mut resources = json!({ "memory": memory, "cpu": cpu });
    if limits.pids != 0 {
        resources["pids"] = json!({ "limit": limits.pids });
    }
    resources
}

/// What only v2 knows, by the names of its files.
fn unified(limits: &Limits, cgroup: &str) -> Value {
    let mut files = json!({});
    // Some kernels count no swap.
    let counts_swap = || {
        let group = cgroup::directory(cgroup, "memory");
        group.parent().is_some_and(|parent| parent.join("memory.swap.max").exists())
    };
    if limits.no_swap && counts_swap() {
        files["memory.swap.max"] = json!("0");
    }
    if limits.oom_kills_all {
        files["memory.oom.group"] = json!("1");
    }
    files
}

/// Docker's rules: deny all, then the devices every container has, then those asked for.
fn device_rules(spec: &ContainerSpec) -> Result<Vec<Value>> {
    if spec.privileged {
        return Ok(vec![json!({"allow": true, "access": "rwm"})]);
    }
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.push(json!({"allow": true, "type": "c", "access": "m"}));
    rules.push(json!({"allow": true, "type": "b", "access": "m"}));
    // null, zero, full, random, urandom, tty, console, ptmx, terminals.
    let character = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    for (major, minor) in character {
        rules.push(json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}));
    }
    rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    for device in &spec.devices {
        let node = node(&device.host)?;
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        let rule =
            json!({"allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access});
        rules.push(rule);
    }
    for rule in &spec.device_rules {
        rules.push(device_rule(rule)?);
    }
    Ok(rules)
}

/// A rule as the devices controller writes it: `a`, `b` or `c`, numbers or `*`, what is allowed.
fn device_rule(text: &str) -> Result<Value> {
    let invalid = || Error::Invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_ascii_whitespace();
    let (kind, numbers, access) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(kind), Some(numbers), Some(access), None) => (kind, numbers, access),
        _ => return Err(invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    if !["a", "b", "c"].contains(&kind) || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(invalid());
    }
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (name, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[name] = json!(number.parse::<u32>().map_err(|_| invalid())?);
        }
    }
    Ok(rule)
}

fn devices(spec: &ContainerSpec) -> Result<Vec<Value>> {
    let mut devices = Vec::new();
    for device in &spec.devices {
        devices.push(node(&device.host)?.at(&device.container));
    }
    if spec.privileged {
        for path in host_devices(Path::new("/dev")) {
            let target = path.clone();
            if let Ok(node) = node(&path) {
                devices.push(node.at(&target));
            }
        }
    }
    Ok(devices)
}

/// All device nodes of the host but those a container has of its own: terminals, shared memory, queues.
fn host_devices(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !["pts", "shm", "mqueue", "fd", ".lxc", ".udev"].iter().any(|own| name == *own) {
            found.extend(host_devices(&path));
        } else if (kind.is_char_device() || kind.is_block_device())
            && !["console", "ptmx"].iter().any(|own| name == *own)
        {
            found.push(path);
        }
    }
    found
}

struct Node {
    kind: &'static str,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Node {
    fn at(&self, target: &Path) -> Value {
        json!({
            "path": target, "type": self.kind, "major": self.major, "minor": self.minor,
            "fileMode": self.mode & 0o777, "uid": self.uid, "gid": self.gid,
        })
    }
}

fn node(path: &Path) -> Result<Node> {
    let metadata = std::fs::metadata(path).map_err(|err| {
        Error::Invalid(format!(
            "error gathering device information while adding custom device \"{}\": {err}",
            path.display()
        ))
    })?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(Error::Invalid(format!("\"{}\" is not a device node", path.display()))),
    };
    let device = metadata.rdev();
    Ok(Node {
        kind,
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}
