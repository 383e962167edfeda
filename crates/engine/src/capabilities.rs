//! Which capabilities a container's processes may have: Docker's default set, what a request adds and what it drops.

use std::sync::LazyLock;

use crate::engine::{Error, Result};

/// Docker's defaults.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All that Linux has, in the order of their numbers.
const ALL: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names, with `CAP_`, that a container gets: none beyond what this process could give.
///
/// # Errors
/// In Docker's words for a name that no capability has, or one that this environment withholds.
pub fn granted(privileged: bool, add: &[String], drop: &[String]) -> Result<Vec<String>> {
    granted_of(available(), privileged, add, drop)
}

fn granted_of(available: u64, privileged: bool, add: &[String], drop: &[String]) -> Result<Vec<String>> {
    let is_available = |number: usize| available & (1 << number) != 0;
    let add = known(add)?;
    let drop = known(drop)?;
    for (number, name) in ALL.iter().enumerate() {
        if !is_available(number) && add.iter().any(|entry| entry == name) {
            return Err(Error::Invalid(format!(
                "capability not supported by your kernel or not available in the current environment: \"CAP_{name}\""
            )));
        }
    }
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name || entry == "ALL");
    let granted = ALL.iter().enumerate().filter(|(number, name)| {
        if privileged || !is_available(*number) {
            return is_available(*number);
        }
        let dropped = drop.iter().any(|entry| entry == *name);
        let wanted = has(&add, name) || (DEFAULT.contains(name) && !has(&drop, name));
        // `ALL` dropped keeps what is added by name; a name in both lists is dropped.
        wanted && !dropped
    });
    Ok(granted.map(|(_, name)| format!("CAP_{name}")).collect())
}

/// A bit a capability, for names from [`granted`].
pub fn bits(names: &[String]) -> u64 {
    let plain = |name: &str| ALL.iter().position(|known| Some(*known) == name.strip_prefix("CAP_"));
    names.iter().filter_map(|name| plain(name)).fold(0, |bits, number| bits | 1 << number)
}

/// Whether this process may protect others from the OOM killer more than itself.
pub fn may_lower_oom_score() -> bool {
    available() & (1 << 24) != 0
}

/// This process's bounding set, a bit a capability; all of them where it can't be read.
fn available() -> u64 {
    static AVAILABLE: LazyLock<u64> = LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(u64::MAX)
    });
    *AVAILABLE
}

fn known(names: &[String]) -> Result<Vec<String>> {
    let plain = names.iter().map(|name| {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
        match plain == "ALL" || ALL.contains(&plain.as_str()) {
            true => Ok(plain),
            false => Err(Error::Invalid(format!("unknown capability: \"CAP_{plain}\""))),
        }
    });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(privileged: bool, add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        granted_of(u64::MAX, privileged, &own(add), &own(drop)).unwrap()
    }

    #[test]
    fn lists_combine_as_with_docker() {
        assert_eq!(names(false, &[], &[]).len(), 14);
        assert_eq!(bits(&names(false, &[], &[])), 0xa804_25fb, "as the kernel prints Docker's");
        assert_eq!(names(true, &[], &[]).len(), 41);
        assert_eq!(names(false, &["ALL"], &[]).len(), 41);
        assert_eq!(names(false, &["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(names(false, &[], &["all"]).len(), 0);
        assert_eq!(names(false, &["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert!(names(false, &["cap_sys_ptrace"], &[]).contains(&"CAP_SYS_PTRACE".to_owned()));
        assert!(!names(false, &[], &["CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
    }

    #[test]
    fn what_the_environment_withholds_is_left_out_or_refused() {
        let without_resource = !(1 << 24);
        assert_eq!(granted_of(without_resource, true, &[], &[]).unwrap().len(), 40);
        assert_eq!(granted_of(without_resource, false, &["ALL".into()], &[]).unwrap().len(), 40);
        for (name, words) in [
            ("nonsense", "unknown capability: \"CAP_NONSENSE\""),
            (
                "SYS_RESOURCE",
                "capability not supported by your kernel or not available in the current environment: \"CAP_SYS_RESOURCE\"",
            ),
        ] {
            assert_eq!(granted_of(without_resource, false, &[name.into()], &[]).unwrap_err().to_string(), words);
        }
    }
}
