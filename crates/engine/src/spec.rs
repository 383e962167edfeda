//! What callers ask of the engine and what they are told: plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Where and as whom the engine works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Blobs, layers, containers, images.json: `/var/lib/tug/engine`.
    pub data_dir: PathBuf,
    /// Sockets, namespaces, shim pids: `/run/tug/engine`.
    pub run_dir: PathBuf,
    /// Parent of all cgroups that this engine makes: `/tug`.
    pub cgroup_parent: String,
    /// `docker.io` -> [`http://127.0.0.1:5000`]: tried in order before the registry itself.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Runtime whose threads dial registries, when that must happen in another network namespace than the engine's.
    pub dial: Option<tokio::runtime::Handle>,
    /// Runtime whose blocking threads look registries' names up, when that must happen with other files than the engine's.
    pub names: Option<tokio::runtime::Handle>,
    /// Program that is run as `PROGRAM shim …`; usually `/proc/self/exe`.
    pub program: PathBuf,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Unique, chosen by the caller: `[a-z0-9-]`, at most 64 bytes.
    pub id: String,
    pub hostname: String,
    /// Share the node's namespace instead of having one of its own.
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// All containers in one pid namespace, whose init is the shim's child and reaps.
    pub share_pid: bool,
    /// Namespaced sysctls, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// Relative to the engine's cgroup parent: `kubepods/burstable/pod<uid>`.
    pub cgroup: String,
    pub limits: Limits,
    /// Size of `/dev/shm`, shared by the containers; 64 MiB when 0.
    pub shm_bytes: u64,
    /// The caller's own, given back by `list`.
    pub labels: BTreeMap<String, String>,
    /// Sandboxes whose network or IPC namespace to share instead of having one of its own.
    #[serde(default)]
    pub net_of: Option<String>,
    #[serde(default)]
    pub ipc_of: Option<String>,
    /// For one container of the same id, whose control group is the sandbox's own.
    #[serde(default)]
    pub lone: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxStatus {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub created: SystemTime,
    /// The shim lives and holds the namespaces.
    pub ready: bool,
    /// Bind mount of the network namespace; `None` with `host_network`.
    pub netns: Option<PathBuf>,
    pub spec: SandboxSpec,
}

/// cgroup limits; 0 or `None` for no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: u64,
    /// Memory and swap together; equal to memory means no swap.
    pub memory_swap_bytes: u64,
    pub memory_reservation_bytes: u64,
    pub cpu_shares: u64,
    pub cpu_quota_micros: i64,
    pub cpu_period_micros: u64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub pids: i64,
    /// On v2 only, and of a container: nothing of it goes to swap, also where its memory has no limit.
    #[serde(default)]
    pub no_swap: bool,
    /// On v2 only, and of a container: when the kernel kills one of its processes for want of memory, all others go along.
    #[serde(default)]
    pub oom_kills_all: bool,
    /// On v1 only: processes wait for memory instead of being killed.
    #[serde(default)]
    pub no_oom_kill: bool,
    /// On v1 only: 0 to 100.
    #[serde(default)]
    pub swappiness: Option<u64>,
    /// 10 to 1000.
    #[serde(default)]
    pub block_io_weight: u16,
    #[serde(default)]
    pub block_io_throttles: Vec<Throttle>,
}

/// A device's most bytes or operations a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throttle {
    pub kind: ThrottleKind,
    pub device: PathBuf,
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique, chosen by the caller: 64 hex digits.
    pub id: String,
    pub sandbox: String,
    /// Image id (`sha256:…`), from [`crate::Images::resolve`].
    pub image: String,
    /// Entry point and arguments as they are to run. When both are empty the image's are used.
    pub entrypoint: Option<Vec<String>>,
    pub args: Option<Vec<String>>,
    /// Added to the image's, which they override: `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    /// `user`, `user:group`, `uid:gid`; the image's when `None`. Names are looked up in the container's own files.
    pub user: Option<String>,
    pub supplemental_groups: Vec<u32>,
    pub image_groups: ImageGroups,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub tty: bool,
    /// A pipe or terminal that attach can write to; otherwise stdin is `/dev/null`.
    pub stdin: bool,
    /// Stdin closes when the first attached writer leaves.
    pub stdin_once: bool,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub no_new_privileges: bool,
    /// Without `CAP_`; `ALL` is known.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub seccomp: Seccomp,
    pub masked_paths: MaskedPaths,
    /// Sees the node's control groups, not only its own.
    #[serde(default)]
    pub host_cgroups: bool,
    /// More than its devices, in the devices controller's words: `c 10:200 rwm`.
    #[serde(default)]
    pub device_rules: Vec<String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub rlimits: Vec<Rlimit>,
    pub limits: Limits,
    pub oom_score_adj: Option<i32>,
    pub sysctls: BTreeMap<String, String>,
    /// Another container of the sandbox whose pid namespace to join.
    pub pid_of: Option<String>,
    pub log: Log,
    /// The image's when `None`; then SIGTERM.
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// Whether a user gets the groups that list it in the image's `/etc/group`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageGroups {
    /// Only when no group is asked for, as with Docker.
    #[default]
    UnlessGroupGiven,
    Always,
    Never,
}

/// Numbers that a container's first process was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Without duplicates, ascending; the group itself among them.
    pub groups: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    Unconfined,
    /// A profile file in Docker's JSON format.
    File(PathBuf),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaskedPaths {
    /// Docker's masked and read-only paths under /proc and /sys.
    #[default]
    Default,
    Unmasked,
    These {
        masked: Vec<String>,
        read_only: Vec<String>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// `bind`, `tmpfs`, … as in the OCI runtime specification.
    pub kind: String,
    pub source: PathBuf,
    pub target: PathBuf,
    /// As for mount(8): `ro`, `rbind`, `rslave`, `size=64m` …
    pub options: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: PathBuf,
    /// `rwm`.
    pub permissions: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` …
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// Format and place of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    pub format: LogFormat,
    pub path: PathBuf,
    /// Rotated past this size; 10 MiB when 0.
    pub max_bytes: u64,
    /// Files kept in all; 5 when 0.
    pub max_files: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// `<RFC3339Nano> stdout F line`, as CRI has it.
    #[default]
    Cri,
    /// Docker's json-file.
    JsonFile,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    #[default]
    Created,
    Running,
    Paused,
    Exited,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub state: State,
    pub pid: Option<u32>,
    pub created: SystemTime,
    pub started: Option<SystemTime>,
    pub finished: Option<SystemTime>,
    /// 128 + signal when a signal ended it.
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    /// Why a start failed.
    pub error: Option<String>,
    /// Known once it was started.
    #[serde(default)]
    pub user: Option<Identity>,
    pub spec: ContainerSpec,
}

/// What happens to containers, as it happens.
#[derive(Clone, Debug)]
pub enum Event {
    Started { id: String, sandbox: String },
    Exited { id: String, sandbox: String, exit_code: i32, oom_killed: bool },
    SandboxDied { id: String },
}

#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub env: Vec<String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub privileged: bool,
    /// Goes on when its [`crate::Session`] is dropped or the daemon dies; otherwise it is killed then.
    pub detached: bool,
}

/// Terminal size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Which lines of a log to read.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    /// Number of lines from the end.
    pub tail: Option<u64>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug)]
pub struct LogLine {
    pub time: SystemTime,
    pub stream: Stream,
    /// With its newline, unless the line was cut where a chunk ended.
    pub text: bytes::Bytes,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds since the start.
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    /// Usage without inactive file pages, as the kubelet reports it.
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub pids: u64,
}

/// What became of stopping: how long to wait before SIGKILL.
pub type Grace = Duration;

/// Registry credentials, as in a docker config file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    Anonymous,
    Basic {
        username: String,
        password: String,
    },
    Bearer(String),
}

/// Written into the sandbox's `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<IpAddr>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}
