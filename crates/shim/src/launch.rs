//! Starting a process through the OCI library, in a helper forked for it: the library changes the calling process (its
//! OOM score, whether it can be dumped, its directory), and its steps must not hold up the shim's other work.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use crate::causes;
use crate::cgroup;
use crate::confine::Confinement;
use crate::devices;
use crate::executor::Program;
use crate::sandbox::pipe;

/// What is to be started.
pub enum What {
    /// A container from its bundle.
    Container { bundle: PathBuf, cgroup: String },
    /// An OCI `process` inside a running container.
    Exec { process: PathBuf, cgroup: String },
}

/// Standard streams of the new process.
pub enum Stdio {
    Files([OwnedFd; 3]),
    /// A terminal, whose master is sent to this socket.
    Console(PathBuf),
}

/// What helpers and containers write into a launch's pipe before it ends: a process id, a failure, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Pid(i32),
    Failed(String),
    /// What went wrong first says most about a failure.
    Cause(String),
}

/// Longest text in an outcome: a line in a pipe is whole up to a page.
const TEXT_CHARS: usize = 1000;

impl Outcome {
    /// One line, short enough to be written at once.
    pub fn send(mut self, to: impl AsFd) -> io::Result<()> {
        if let Outcome::Failed(text) | Outcome::Cause(text) = &mut self {
            *text = text.chars().take(TEXT_CHARS).collect();
        }
        let mut line = serde_json::to_vec(&self)?;
        line.push(b'\n');
        rustix::io::write(to, &line)?;
        Ok(())
    }
}

/// Forks the helper and returns the pipe's reading end. It ends once the program runs or can't.
///
/// The helper, the library's intermediate process and the container's first process all become the shim's children.
pub fn start(id: &str, root: &Path, what: What, confinement: Confinement, stdio: Stdio) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe()?;
    // SAFETY: the shim has one thread, so the child may use the heap and any lock.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            rustix::io::ioctl_fionbio(&reader, true)?;
            Ok(reader)
        }
        ForkResult::Child => {
            drop(reader);
            causes::send_to(writer.as_raw_fd());
            let outcome = match run(id, root, what, confinement, stdio, &writer) {
                Ok(pid) => Outcome::Pid(pid),
                Err(err) => Outcome::Failed(chain(err.as_ref())),
            };
            let told = outcome.send(&writer);
            // SAFETY: ends the helper without running the shim's exit handlers a second time.
            unsafe { libc::_exit(i32::from(told.is_err())) }
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn run(
    id: &str,
    root: &Path,
    what: What,
    confinement: Confinement,
    stdio: Stdio,
    outcome: &OwnedFd,
) -> Result<i32, Failure> {
    // The shim blocks SIGCHLD and ignores SIGPIPE, and whoever started it with nohup SIGHUP; programs expect none of that,
    // and all of it would survive their exec.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default disposition runs no handler.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }

    let program = Program { outcome: outcome.as_raw_fd(), confinement: confinement.read_filter()? };
    let builder = |root: &Path| -> Result<ContainerBuilder, Failure> {
        let builder =
            ContainerBuilder::new(id.to_owned(), SyscallType::default()).with_executor(program).with_root_path(root)?;
        Ok(match stdio {
            Stdio::Files([stdin, stdout, stderr]) => builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr),
            Stdio::Console(socket) => builder.with_console_socket(Some(socket)),
        })
    };
    match what {
        What::Container { bundle, cgroup } => {
            devices::guard(&bundle, &cgroup)?;
            cgroup::enter_others(&cgroup)?;
            let builder = builder(root)?.as_init(bundle).with_systemd(false).as_sibling(true);
            let mut container = builder.build()?;
            container.start()?;
            let pid = container.pid().ok_or("the container has no process")?;
            Ok(pid.as_raw())
        }
        What::Exec { process, cgroup } => {
            cgroup::enter_others(&cgroup)?;
            let own_root = copy_state(root, id)?;
            let tenant = builder(&own_root)?.as_tenant().with_detach(true).as_sibling(true);
            let pid = tenant.with_process(Some(&process)).build();
            // A left-over is removed with the sandbox's directory.
            drop((std::fs::remove_file(&process), std::fs::remove_dir_all(&own_root)));
            Ok(pid?.as_raw())
        }
    }
}

/// A state directory of an exec's own, in which the library leaves its sockets.
fn copy_state(root: &Path, id: &str) -> io::Result<PathBuf> {
    let own_root = root.with_file_name(format!("exec-{}", std::process::id()));
    std::fs::create_dir_all(own_root.join(id))?;
    for file in ["state.json", "youki_config.json"] {
        std::fs::copy(root.join(id).join(file), own_root.join(id).join(file))?;
    }
    Ok(own_root)
}

/// An error with its causes, each said once.
fn chain(err: &(dyn Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A launch under way.
pub struct Launch {
    pub pipe: OwnedFd,
    said: Vec<u8>,
}

impl Launch {
    pub fn new(pipe: OwnedFd) -> Self {
        Launch { pipe, said: Vec::new() }
    }

    /// Reads what there is; `None` while the launch is under way, else its process or why it failed.
    pub fn progress(&mut self) -> Option<Result<i32, String>> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => break,
                Ok(bytes) => self.said.extend_from_slice(&buffer[..bytes]),
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let (mut pid, mut cause) = (None, None);
        for line in self.said.split(|&byte| byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Outcome::Failed(message)) => {
                    return Some(Err(match cause {
                        Some(cause) => format!("{message}: {cause}"),
                        None => message,
                    }));
                }
                Ok(Outcome::Cause(text)) => cause = cause.or(Some(text)),
                Ok(Outcome::Pid(started)) => pid = Some(started),
                Err(_) => {}
            }
        }
        Some(pid.ok_or_else(|| "the process that starts containers died".to_owned()))
    }
}
