//! Which capabilities a container's processes may have: Docker's default set, what a request adds and what it drops.

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

/// The names, with `CAP_`, that a container gets.
///
/// # Errors
/// A name that no capability has.
pub fn granted(privileged: bool, add: &[String], drop: &[String]) -> Result<Vec<String>> {
    let add = known(add)?;
    let drop = known(drop)?;
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name || entry == "ALL");
    let granted = ALL.iter().filter(|name| {
        if privileged {
            return true;
        }
        let dropped = drop.iter().any(|entry| entry == *name);
        let wanted = has(&add, name) || (DEFAULT.contains(name) && !has(&drop, name));
        // `ALL` dropped keeps what is added by name; a name in both lists is dropped.
        wanted && !dropped
    });
    Ok(granted.map(|name| format!("CAP_{name}")).collect())
}

fn known(names: &[String]) -> Result<Vec<String>> {
    let plain = names.iter().map(|name| {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
        match plain == "ALL" || ALL.contains(&plain.as_str()) {
            true => Ok(plain),
            false => Err(Error::Invalid(format!("invalid capability: \"{name}\""))),
        }
    });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(privileged: bool, add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        granted(privileged, &own(add), &own(drop)).unwrap()
    }

    #[test]
    fn lists_combine_as_with_docker() {
        assert_eq!(names(false, &[], &[]).len(), 14);
        assert_eq!(names(true, &[], &[]).len(), 41);
        assert_eq!(names(false, &["ALL"], &[]).len(), 41);
        assert_eq!(names(false, &["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(names(false, &[], &["all"]).len(), 0);
        assert_eq!(names(false, &["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert!(names(false, &["cap_sys_ptrace"], &[]).contains(&"CAP_SYS_PTRACE".to_owned()));
        assert!(!names(false, &[], &["CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
        assert!(granted(false, &["NONSENSE".into()], &[]).is_err());
    }
}
