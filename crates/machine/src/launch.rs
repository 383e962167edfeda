//! Starts a machine: a launcher process enters the machine's cgroups, unshares its namespaces and forks PID 1, which
//! waits until the network stands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::record::{Machine, hold_still, load};
use crate::{During, Error, Result, cgroups, mounts};

/// Name of the hidden subcommand that becomes PID 1; its one argument is the machine's name.
pub(crate) const INIT_COMMAND: &str = "machine-init";

/// A machine whose PID 1 waits for its network.
pub struct Launched {
    pub pid: i32,
    control: UnixStream,
}

impl Launched {
    /// Lets PID 1 go on; returns when it has laid its mounts and started its program.
    ///
    /// # Errors
    /// With what PID 1 said, if it couldn't.
    pub fn proceed(mut self) -> Result<()> {
        self.control.write_all(b"go\n").during("starting the machine's init")?;
        let mut answer = String::new();
        BufReader::new(self.control).read_line(&mut answer).during("waiting for the machine's init")?;
        match answer.trim_end() {
            "ok" => Ok(()),
            "" => Err(Error::Refused("the machine's init died; its log says why".into())),
            said => Err(Error::Refused(said.into())),
        }
    }
}

/// A link to this program in `directory`: what it is run by gives a process its name, until it can take one itself.
pub(crate) fn named_program(directory: &Path) -> Result<PathBuf> {
    let link = directory.join("tug");
    match symlink("/proc/self/exe", &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
    .during(format!("making {}", link.display()))?;
    Ok(link)
}

/// Writes the record, prepares the machine's files and starts its PID 1 from this very program.
///
/// Blocks for some milliseconds. The network namespace `/proc/<pid>/ns/net` is there when it returns.
pub fn launch(machine: &mut Machine) -> Result<Launched> {
    let paths = machine.paths();
    let still = hold_still()?;
    if let Some(saved) = load(&machine.name)? {
        // Another machine that went meanwhile may have handed its own over.
        machine.made_directories = saved.made_directories;
    }
    make_private(&paths.state)?;
    fs::create_dir_all(&paths.run).during(format!("making {}", paths.run.display()))?;
    mounts::prepare(machine)?;
    machine.save()?;
    drop(still);
    // Those of a run whose PID 1 was killed: a v2 cgroup that has children takes no process.
    cgroups::remove(&machine.name)?;

    let (control, theirs) = UnixStream::pair().during("making the control socket")?;
    let log = open_log(machine)?;
    let errors = log.try_clone().during("opening the machine's log")?;
    let mut launcher = Command::new(named_program(&paths.run)?)
        .args([INIT_COMMAND, &machine.name])
        .envs(&machine.program.env)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log)
        .stderr(errors)
        .spawn()
        .during("starting the machine's launcher")?;

    let mut reader = BufReader::new(control.try_clone().during("reading from the launcher")?);
    let mut line = String::new();
    reader.read_line(&mut line).during("waiting for the launcher")?;
    let status = launcher.wait().during("waiting for the launcher")?;
    let said = line.trim_end();
    let Ok(pid) = said.parse() else {
        let said = if said.is_empty() { format!("it ended with {status}") } else { said.to_owned() };
        return Err(Error::Refused(format!("the machine's namespaces can't be made: {said}")));
    };
    machine.save_pid(pid)?;
    Ok(Launched { pid, control })
}

/// Containers' files keep their owners and modes in there, and so would be open to local users with the same numbers.
fn make_private(state: &Path) -> Result<()> {
    fs::create_dir_all(state).during(format!("making {}", state.display()))?;
    for directory in state.ancestors().take(2) {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory, private).during(format!("closing {} to others", directory.display()))?;
    }
    Ok(())
}

fn open_log(machine: &Machine) -> Result<File> {
    let path = machine.paths().log();
    OpenOptions::new().create(true).append(true).open(&path).during(format!("opening {}", path.display()))
}
