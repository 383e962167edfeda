//! What is kept of a machine on disk, and where: `/var/lib/tug/machines/<name>` outlives a stop,
//! `/run/tug/machines/<name>` doesn't outlive the host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{During, Error, Result};

const STATE: &str = "/var/lib/tug/machines";
const RUN: &str = "/run/tug/machines";

pub(crate) const LOG: &str = "machine.log";
pub(crate) const OLDER_LOG: &str = "machine.log.1";

/// One machine as it was made. Its name is also its host name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub address: Ipv4Addr,
    /// The host's address on the bridge, with the network's prefix length.
    pub gateway: Ipv4Net,
    pub bridge: String,
    /// What PID 1 keeps running.
    pub program: Program,
    /// Mount points that had to be made on the host, removed with the machine.
    #[serde(default)]
    pub made_directories: Vec<PathBuf>,
}

/// A program, its arguments and what is added to its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
}

/// Where a machine's files are, as the host sees them.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/var/lib/tug/machines/<name>`.
    pub state: PathBuf,
    /// `/run/tug/machines/<name>`.
    pub run: PathBuf,
}

impl Paths {
    pub fn of(name: &str) -> Self {
        Self { state: Path::new(STATE).join(name), run: Path::new(RUN).join(name) }
    }

    /// Whether anything is kept under the name: also what a start left that was killed before it wrote the record.
    pub fn in_use(&self) -> bool {
        self.state.exists() || self.run.exists()
    }

    /// What the machine sees as `/var/lib/tug`.
    pub fn data(&self) -> PathBuf {
        self.state.join("root/var/lib/tug")
    }

    /// What the machine sees as `/etc/tug`.
    pub fn config(&self) -> PathBuf {
        self.state.join("root/etc/tug")
    }

    /// What the machine sees as `/run/tug`: sockets in it can be reached from the host.
    pub fn sockets(&self) -> PathBuf {
        self.run.join("run")
    }

    /// Output of PID 1 and of the program that it runs. Another file takes its name when it has grown.
    pub fn log(&self) -> PathBuf {
        self.state.join(LOG)
    }

    /// What was the log before it had grown, where it ever had.
    pub fn older_log(&self) -> PathBuf {
        self.state.join(OLDER_LOG)
    }

    fn record(&self) -> PathBuf {
        self.state.join("machine.json")
    }

    fn pid(&self) -> PathBuf {
        self.run.join("pid")
    }
}

impl Machine {
    pub fn paths(&self) -> Paths {
        Paths::of(&self.name)
    }

    /// Name of the veth end that stays on the host; at most 15 bytes, unique by the address.
    pub fn host_link(&self) -> String {
        let [.., c, d] = self.address.octets();
        format!("tugm{c:02x}{d:02x}")
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = self.paths().record();
        let json = serde_json::to_vec_pretty(self).expect("a machine's record has only string keys");
        write_atomically(&path, &json).during(format!("writing {}", path.display()))
    }

    /// PID 1's number on the host, while the machine runs.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.paths().pid()).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid: i32 = pid.parse().ok()?;
        // A number alone may have been given to another process since.
        (start_time(pid)?.to_string() == started).then_some(pid)
    }

    pub(crate) fn save_pid(&self, pid: i32) -> Result<()> {
        let started = start_time(pid).ok_or_else(|| Error::Refused(format!("machine {} died at once", self.name)))?;
        let path = self.paths().pid();
        write_atomically(&path, format!("{pid} {started}\n").as_bytes()).during(format!("writing {}", path.display()))
    }
}

/// While the result lives no other process adds or removes a machine, or the directories that machines share.
pub(crate) fn hold_still() -> Result<fs::File> {
    // A directory that is there before the first machine and after the last.
    let held = fs::File::open("/run").during("opening /run")?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .during("locking /run")?;
    Ok(held)
}

/// Reads one machine's record; `None` when there is no such machine.
///
/// # Errors
/// If the record exists but can't be read.
pub fn load(name: &str) -> Result<Option<Machine>> {
    let path = Paths::of(name).record();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).during(format!("reading {}", path.display())),
    };
    let machine = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Refused(format!("{} is damaged: {error}", path.display())))?;
    Ok(Some(machine))
}

/// All machines of this host, by name.
///
/// # Errors
/// If a record can't be read.
pub fn list() -> Result<Vec<Machine>> {
    let entries = match fs::read_dir(STATE) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during(format!("reading {STATE}")),
    };
    let mut machines = Vec::new();
    for entry in entries {
        let entry = entry.during(format!("reading {STATE}"))?;
        machines.extend(load(&entry.file_name().to_string_lossy())?);
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(machines)
}

/// Field 22 of `/proc/<pid>/stat`, clock ticks since boot; `None` also for one that is dead and not yet reaped.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(partial, path)
}
