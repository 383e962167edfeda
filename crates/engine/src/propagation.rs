//! How mounts below a bind mount spread between the host and a container, and whether the source can do that.

use std::fs;
use std::path::{Path, PathBuf};

use tug_shim::confine::Propagation;

use crate::engine::{Error, Result};
use crate::spec::Mount;

/// What a mount's options ask for.
pub fn asked(mount: &Mount) -> Option<Propagation> {
    mount.options.iter().rev().find_map(|option| match option.as_str() {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        "unbindable" | "runbindable" => Some(Propagation::Unbindable),
        _ => None,
    })
}

/// Of each bind mount by its target; private where nothing is asked for, as with Docker and Kubernetes.
///
/// # Errors
/// In containerd's words when the source is on a mount that does not spread.
pub fn of(mounts: &[Mount]) -> Result<Vec<(PathBuf, Propagation)>> {
    let binds = mounts.iter().filter(|mount| mount.kind == "bind");
    binds
        .map(|mount| {
            let propagation = asked(mount).unwrap_or(Propagation::Private);
            if matches!(propagation, Propagation::Shared | Propagation::Slave) {
                check_source(&mount.source, propagation)?;
            }
            Ok((mount.target.clone(), propagation))
        })
        .collect()
}

fn check_source(source: &Path, propagation: Propagation) -> Result<()> {
    let failed = |err: std::io::Error| Error::Failed { step: "read mounts", message: err.to_string() };
    let source = fs::canonicalize(source)
        .map_err(|err| Error::Invalid(format!("failed to stat \"{}\": {err}", source.display())))?;
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    check_source_in(&table, &source, propagation)
}

fn check_source_in(table: &str, source: &Path, propagation: Propagation) -> Result<()> {
    let below = table.lines().filter_map(mount_point).filter(|(point, _)| source.starts_with(point));
    // Of mounts on the same point the last is the one that is seen.
    let Some((point, fields)) = below.max_by_key(|(point, _)| point.as_os_str().len()) else { return Ok(()) };
    let is = |kind: &str| fields.split(' ').any(|field| field.starts_with(kind));
    let (fits, wanted) = match propagation {
        Propagation::Shared => (is("shared:"), "shared"),
        _ => (is("shared:") || is("master:"), "shared or slave"),
    };
    if fits {
        return Ok(());
    }
    let (source, point) = (source.display(), point.display());
    Err(Error::Invalid(format!("path \"{source}\" is mounted on \"{point}\" but it is not a {wanted} mount")))
}

/// Where a line of mountinfo mounts, and its optional fields (proc(5)).
fn mount_point(line: &str) -> Option<(PathBuf, &str)> {
    let (head, _) = line.split_once(" - ")?;
    let mut fields = head.splitn(7, ' ');
    let point = fields.nth(4)?;
    Some((PathBuf::from(unescaped(point)), fields.nth(1).unwrap_or_default()))
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_to_spread() {
        let table = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
                     30 22 0:5 / /shared rw shared:7 - tmpfs tmpfs rw\n\
                     31 22 0:6 / /slave\\040of rw,nosuid master:7 - tmpfs tmpfs rw\n";
        let not = |path: &str, point: &str, kind: &str| {
            Some(format!("path \"{path}\" is mounted on \"{point}\" but it is not a {kind} mount"))
        };
        let cases = [
            ("/shared/a", Propagation::Shared, None),
            ("/shared/a", Propagation::Slave, None),
            ("/slave of/a", Propagation::Slave, None),
            ("/slave of/a", Propagation::Shared, not("/slave of/a", "/slave of", "shared")),
            ("/other", Propagation::Shared, not("/other", "/", "shared")),
            ("/other", Propagation::Slave, not("/other", "/", "shared or slave")),
        ];
        for (path, propagation, expected) in cases {
            let error = check_source_in(table, Path::new(path), propagation).err().map(|error| error.to_string());
            assert_eq!(error, expected, "{path} {propagation:?}");
        }
    }

    #[test]
    fn the_last_option_counts() {
        let mount = |options: &[&str]| Mount {
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        };
        assert_eq!(asked(&mount(&["rbind", "rprivate", "rslave"])), Some(Propagation::Slave));
        assert_eq!(asked(&mount(&["rbind", "ro"])), None);
    }
}
