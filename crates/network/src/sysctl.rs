//! Switches under `/proc/sys/net` of the calling thread's network namespace.

use std::fs;
use std::path::Path;

use crate::error::{Result, Step};

/// Writes `value` if it isn't there yet: an unprivileged view of `/proc/sys` that already says so is no error.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    if get(name).as_deref() == Some(value) {
        return Ok(());
    }
    let path = path(name);
    fs::write(&path, value).step(|| format!("setting {path} to {value}"))
}

/// `None` when there is no such switch.
pub(crate) fn get(name: &str) -> Option<String> {
    fs::read_to_string(path(name)).ok().map(|value| value.trim().to_owned())
}

/// Whether there is a switch or a directory of them.
pub(crate) fn exists(name: &str) -> bool {
    Path::new(&path(name)).exists()
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
