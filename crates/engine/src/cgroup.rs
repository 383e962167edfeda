//! Limits and measurements of control groups that the engine makes itself, a pod's above all, and of containers'.

use std::fs;
use std::io;
use std::path::Path;

use tug_shim::cgroup::{self, Layout, counter, directory};

use crate::engine::{Error, Result};
use crate::spec::{Limits, Stats};

/// Makes a control group with limits, or sets them on one that exists.
///
/// # Errors
/// When it can't be made or a limit is refused: the message names the file.
pub fn create(cgroup: &str, limits: &Limits) -> Result<()> {
    cgroup::create(cgroup).map_err(|err| Error::Failed { step: "make control group", message: err.to_string() })?;
    apply(cgroup, limits)
}

/// Sets what a limits value names; 0 leaves a limit as it is.
///
/// # Errors
/// As [`create`].
pub fn apply(cgroup: &str, limits: &Limits) -> Result<()> {
    let set = |controller: &str, file: &str, value: String| {
        let path = directory(cgroup, controller).join(file);
        fs::write(&path, value)
            .map_err(|err| Error::Failed { step: "set limit", message: format!("{}: {err}", path.display()) })
    };
    let v2 = cgroup::layout() == Layout::V2;
    if limits.memory_bytes > 0 {
        set("memory", if v2 { "memory.max" } else { "memory.limit_in_bytes" }, limits.memory_bytes.to_string())?;
    }
    if limits.memory_swap_bytes > 0 {
        if v2 {
            set("memory", "memory.swap.max", limits.memory_swap_bytes.saturating_sub(limits.memory_bytes).to_string())?;
        } else if directory(cgroup, "memory").join("memory.memsw.limit_in_bytes").exists() {
            set("memory", "memory.memsw.limit_in_bytes", limits.memory_swap_bytes.to_string())?;
        }
    }
    if limits.cpu_shares > 0 {
        match v2 {
            true => set("cpu", "cpu.weight", weight(limits.cpu_shares).to_string())?,
            false => set("cpu", "cpu.shares", limits.cpu_shares.to_string())?,
        }
    }
    if limits.cpu_quota_micros != 0 {
        let period = if limits.cpu_period_micros > 0 { limits.cpu_period_micros } else { 100_000 };
        match (v2, limits.cpu_quota_micros) {
            (true, quota) if quota > 0 => set("cpu", "cpu.max", format!("{quota} {period}"))?,
            (true, _) => set("cpu", "cpu.max", format!("max {period}"))?,
            (false, quota) => {
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
                set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
            }
        }
    }
    if !limits.cpuset_cpus.is_empty() {
        set("cpuset", "cpuset.cpus", limits.cpuset_cpus.clone())?;
    }
    if !limits.cpuset_mems.is_empty() {
        set("cpuset", "cpuset.mems", limits.cpuset_mems.clone())?;
    }
    if limits.pids != 0 {
        set("pids", "pids.max", if limits.pids > 0 { limits.pids.to_string() } else { "max".into() })?;
    }
    Ok(())
}

/// v1 shares (2 to 262144) as a v2 weight (1 to 10000), by the OCI runtimes' formula: a curve through both ends that
/// makes the default of the one, 1024, the default of the other, 100.
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// Removes a control group whose processes are dead or dying; the kernel keeps a group busy until the last is gone.
///
/// # Errors
/// When something in it does not die.
pub async fn remove(cgroup: &str) -> Result<()> {
    for attempt in 0..10 {
        match cgroup::remove(cgroup) {
            Ok(()) => return Ok(()),
            // Killed processes leave their group only once they have torn down, which has no event to wait for.
            Err(err) if err.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                cgroup::kill(cgroup);
                tokio::time::sleep(std::time::Duration::from_millis(1 << attempt)).await;
            }
            Err(err) => return Err(Error::Failed { step: "remove control group", message: err.to_string() }),
        }
    }
    Err(Error::Failed { step: "remove control group", message: format!("{cgroup}: processes in it do not die") })
}

/// What a control group uses now.
///
/// # Errors
/// When there is no such group.
pub fn stats(cgroup: &str) -> Result<Stats> {
    measure(cgroup).map_err(|err| Error::NotFound(format!("no measurements of {cgroup}: {err}")))
}

fn measure(cgroup: &str) -> io::Result<Stats> {
    let memory = directory(cgroup, "memory");
    let stat = fs::read_to_string(memory.join("memory.stat"))?;
    let pids = number(&directory(cgroup, "pids").join("pids.current")).unwrap_or_default();
    let (usage, inactive, rss, cpu_nanos) = match cgroup::layout() {
        Layout::V1 => (
            number(&memory.join("memory.usage_in_bytes"))?,
            counter(&stat, "total_inactive_file"),
            counter(&stat, "total_rss"),
            number(&directory(cgroup, "cpuacct").join("cpuacct.usage"))?,
        ),
        Layout::V2 => {
            let cpu = fs::read_to_string(directory(cgroup, "cpu").join("cpu.stat"))?;
            let usage = number(&memory.join("memory.current"))?;
            (usage, counter(&stat, "inactive_file"), counter(&stat, "anon"), counter(&cpu, "usage_usec") * 1000)
        }
    };
    Ok(Stats {
        cpu_nanos,
        memory_bytes: usage,
        memory_working_set_bytes: usage.saturating_sub(inactive),
        memory_rss_bytes: rss,
        pids,
    })
}

fn number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(2, 1), (102, 17), (512, 59), (1024, 100), (262_144, 10_000), (0, 1)] {
            assert_eq!(weight(shares), expected);
        }
    }
}
