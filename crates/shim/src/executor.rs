//! The last step inside a container: find the program and become it, or say why not in Docker's words.

use std::ffi::CString;
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;

use crate::confine;
use crate::launch::Outcome;

/// Runs a container's or an exec's program.
#[derive(Clone)]
pub struct Program {
    /// Where [`Outcome`]s go; closed by a successful exec.
    pub outcome: RawFd,
    pub confinement: confine::Ready,
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let message = self.become_it(spec);
        // SAFETY: the descriptor was opened by this process's ancestor, inherited, and is closed by nobody but exec.
        let outcome = unsafe { BorrowedFd::borrow_raw(self.outcome) };
        // Nobody is left to tell when this fails: the waiting side then sees only the exit.
        drop(Outcome::Failed(message.clone()).send(outcome));
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

impl Program {
    /// Returns only when it failed.
    fn become_it(&self, spec: &Spec) -> String {
        if let Err(message) = self.confinement.apply() {
            return message;
        }
        let args = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default();
        let Some(name) = args.first() else { return "no command specified".into() };
        let path = match find(name, &std::env::var("PATH").unwrap_or_default()) {
            Ok(path) => path,
            Err(message) => return message,
        };
        let strings: Result<Vec<CString>, _> = args.iter().map(|arg| CString::new(arg.as_str())).collect();
        let (Ok(strings), Ok(program)) = (strings, CString::new(path.as_str())) else {
            return format!("exec {path}: invalid argument");
        };
        let Err(errno) = nix::unistd::execv(&program, &strings);
        format!("exec {path}: {}", words(errno))
    }
}

/// Looks a program up as Go's `exec.LookPath` does, with its words.
fn find(name: &str, path: &str) -> Result<String, String> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::EACCES) => Err(format!("exec: {name:?}: permission denied")),
            Err(Errno::EISDIR) => Err(format!("exec: {name:?}: is a directory")),
            Err(errno) => Err(format!("exec: {name:?}: stat {name}: {}", words(errno))),
        };
    }
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{directory}/{name}");
        if executable(Path::new(&candidate)).is_ok() {
            return Ok(candidate);
        }
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let metadata = fs::metadata(path).map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or_default()))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    match metadata.permissions().mode() & 0o111 {
        0 => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// Go's words for an error number, which are the C library's in lower case.
fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_refused_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        fs::write(&tool, "").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        let (dir, plain) = (dir.path().to_str().unwrap(), plain.to_str().unwrap());
        let path = format!("/nonexistent:{dir}");
        let cases = [
            ("tool", Ok(format!("{dir}/tool"))),
            ("nope", Err(r#"exec: "nope": executable file not found in $PATH"#.to_owned())),
            ("plain", Err(r#"exec: "plain": executable file not found in $PATH"#.to_owned())),
            ("/no/such", Err(r#"exec: "/no/such": stat /no/such: no such file or directory"#.to_owned())),
            (plain, Err(format!("exec: {plain:?}: permission denied"))),
            (dir, Err(format!("exec: {dir:?}: is a directory"))),
        ];
        for (name, expected) in cases {
            assert_eq!(find(name, &path), expected);
        }
    }
}
