//! Supervises the containers of one sandbox: parent and reaper of their processes, owner of their pipes, terminals,
//! log files and exit codes. One small single-threaded process that outlives the daemon which started it.
//!
//! The daemon speaks to it over `shim.sock` in the sandbox's run directory ([`protocol`]); nothing here waits for the
//! daemon, so its death changes nothing for a container.

mod attach;
mod causes;
pub mod cgroup;
pub mod confine;
mod console;
mod container;
mod devices;
mod executor;
mod launch;
pub mod log;
pub mod protocol;
mod sandbox;
mod supervisor;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the shim for the sandbox whose run directory is given as `--dir DIR`; returns when the sandbox is shut down.
///
/// Says `ready` on standard output, then closes it, once the namespaces are held and the socket answers; any other
/// text there is why it could not start.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let mut args = args.into_iter();
    let dir = match (args.next().as_deref(), args.next(), args.next()) {
        (Some("--dir"), Some(dir), None) => PathBuf::from(dir),
        _ => {
            eprintln!("usage: shim --dir DIR");
            return ExitCode::from(2);
        }
    };
    let supervisor = match sandbox::enter(&dir).and_then(|config| supervisor::Supervisor::new(&dir, config)) {
        Ok(supervisor) => supervisor,
        Err(err) => {
            println!("{err}");
            return ExitCode::FAILURE;
        }
    };
    let told = std::io::stdout().write_all(b"ready\n").and_then(|()| sandbox::leave_stdio());
    if let Err(err) = told {
        eprintln!("{err}");
        return ExitCode::FAILURE;
    }
    supervisor.run()
}
