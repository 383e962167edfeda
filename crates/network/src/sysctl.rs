//! Switches under `/proc/sys/net` of the calling thread's network namespace.

use std::fs;

use crate::error::{Result, Step};

/// Writes `value` if it isn't there yet: an unprivileged view of `/proc/sys` that already says so is no error.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).step(|| format!("setting {path} to {value}"))
}
