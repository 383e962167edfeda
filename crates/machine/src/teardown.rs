//! Stops a machine, and removes it with all that it left on the host.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::record::{Machine, Paths, hold_still, list, load};
use crate::{During, Result, cgroups};

/// Longer than PID 1 gives its own processes.
const GRACE: Duration = Duration::from_secs(15);

/// Ends all that runs in the machine; its state stays. Doing it again is no error. Blocks until it has ended.
pub fn stop(machine: &Machine) -> Result<()> {
    if let Some(pid) = machine.pid().and_then(Pid::from_raw) {
        let process = pidfd_open(pid, PidfdFlags::empty()).during("opening the machine's init")?;
        for (signal, wait) in [(Signal::TERM, Some(GRACE)), (Signal::KILL, None)] {
            // It may have ended between; then the wait below returns at once.
            let _ended_already = pidfd_send_signal(&process, signal);
            if ended(&process, wait).during("waiting for the machine to end")? {
                break;
            }
        }
    }
    cgroups::remove(&machine.name)?;
    remove_directory(&machine.paths().run)
}

/// Stops the machine and forgets it: state, images, volumes, and the mount points that were made for it.
pub fn remove(machine: &Machine) -> Result<()> {
    stop(machine)?;
    let _still = hold_still()?;
    let mut made = machine.made_directories.clone();
    // What another machine has handed over since, too.
    made.extend(load(&machine.name)?.map(|saved| saved.made_directories).unwrap_or_default());
    forget(&machine.paths(), &made)
}

/// Removes what a start left that was killed before it wrote the machine's record.
pub fn remove_unrecorded(name: &str) -> Result<()> {
    let _still = hold_still()?;
    forget(&Paths::of(name), &[])
}

fn forget(paths: &Paths, made: &[PathBuf]) -> Result<()> {
    let made = if hand_over(paths, made)? { &[] } else { made };
    remove_directory(&paths.state)?;
    remove_directory(&paths.run)?;
    let parents = [&paths.state, &paths.run].into_iter().flat_map(|path| path.ancestors().skip(1).take(2));
    for directory in made.iter().map(PathBuf::as_path).chain(parents) {
        // Only when nothing else has put anything there since, and no other machine is left.
        if let Err(error) = fs::remove_dir(directory) {
            tracing::debug!(directory = %directory.display(), %error, "a directory stays");
        }
    }
    Ok(())
}

/// Mount points serve all machines, and go with the last: the kernel takes away what others have mounted on a directory
/// that is removed. True when there is a machine that has them now.
fn hand_over(from: &Paths, made: &[PathBuf]) -> Result<bool> {
    let heir = list()?.into_iter().find(|machine| machine.paths().state != from.state);
    let Some(mut heir) = heir else { return Ok(false) };
    heir.made_directories.extend_from_slice(made);
    heir.save()?;
    Ok(true)
}

fn ended(process: &impl AsFd, wait: Option<Duration>) -> io::Result<bool> {
    let timeout = match wait {
        Some(wait) => PollTimeout::try_from(wait.as_millis() as i32).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    Ok(poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout)? > 0)
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).during(format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
