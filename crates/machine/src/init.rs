//! PID 1 of a machine: reaps, keeps the machine's program running as systemd would, and ends what runs when told to.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, sethostname, setsid};

use crate::launch::named_program;
use crate::log::Output;
use crate::record::{Machine, load};
use crate::{During, Error, Result, cgroups, mounts};

/// How long processes that catch SIGTERM may take to end when the machine stops.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A program that lived shorter than this is not restarted before this time is over.
const RESTART_SPACING: Duration = Duration::from_secs(1);

/// The launcher: makes the namespaces, tells the number of PID 1 over standard input (a socket) and ends; the forked
/// child becomes PID 1 and stays.
pub fn run_as_init(name: &str) -> ExitCode {
    match launch_init(name) {
        Ok(code) => code,
        Err(error) => {
            let _unheard = control_write(&format!("{}\n", one_line(&error)));
            eprintln!("tug-init: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn launch_init(name: &str) -> Result<ExitCode> {
    let machine = load(name)?.ok_or_else(|| Error::Refused(format!("there is no machine {name}")))?;
    rename_process("tug-init");
    setsid().during("starting a session")?;
    let hierarchies = cgroups::mounted()?;
    cgroups::enter(name)?;
    let host_netns = File::open("/proc/self/ns/net").during("opening the host's network namespace")?;
    let host_mntns = File::open("/proc/self/ns/mnt").during("opening the host's mount namespace")?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(flags).during("unsharing namespaces")?;
    // SAFETY: this process has one thread, so the child may do whatever this one may.
    match unsafe { fork() }.during("forking PID 1")? {
        ForkResult::Parent { child } => {
            control_write(&format!("{child}\n")).during("telling the number of PID 1")?;
            Ok(ExitCode::SUCCESS)
        }
        ForkResult::Child => {
            wait_for_go()?;
            let output = Output::open(&machine.paths().state)?;
            mounts::lay(&machine, &hierarchies, &host_netns)?;
            drop(host_netns);
            mounts::link_host_mntns(&host_mntns)?;
            cgroups::settle_inside()?;
            sethostname(&machine.name).during("setting the host name")?;
            keep_running(&machine, output)
        }
    }
}

fn one_line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}

fn control_write(text: &str) -> io::Result<()> {
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    control.write_all(text.as_bytes())
}

fn wait_for_go() -> Result<()> {
    let mut line = String::new();
    BufReader::new(io::stdin().lock()).read_line(&mut line).during("waiting for the network")?;
    if line != "go\n" {
        return Err(Error::Refused("the machine's maker went away before its network stood".into()));
    }
    Ok(())
}

/// What `ps` and `top` show.
fn rename_process(name: &str) {
    if let Err(error) = fs::write("/proc/self/comm", name) {
        eprintln!("tug-init: can't rename the process: {error}");
    }
}

fn keep_running(machine: &Machine, mut output: Output) -> Result<ExitCode> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    mask.thread_block().during("blocking signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).during("opening a signal descriptor")?;

    let mut program = Some(start(machine, &output)?);
    let mut started = Instant::now();
    control_write("ok\n").during("reporting the start")?;
    release_control()?;

    loop {
        let wait = match &program {
            Some(_) => None,
            None => Some(RESTART_SPACING.saturating_sub(started.elapsed())),
        };
        match next_signal(&signals, wait, &mut output)? {
            Some(Signal::SIGCHLD) => {
                let ended = reap(program.as_ref());
                program = program.filter(|_| !ended);
            }
            Some(_) => return shut_down(&signals, program, &mut output),
            None => {}
        }
        if program.is_none() && started.elapsed() >= RESTART_SPACING {
            started = Instant::now();
            program = start(machine, &output).map_err(|error| eprintln!("tug-init: {}", one_line(&error))).ok();
        }
    }
}

/// The control socket must be closed for the starter to stop waiting, but descriptor 0 must not be reused.
fn release_control() -> Result<()> {
    let null = File::open("/dev/null").during("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).during("closing the control socket")
}

fn start(machine: &Machine, output: &Output) -> Result<Child> {
    let mut command = Command::new(named_program(Path::new("/run/tug"))?);
    command.args(&machine.program.args).stdin(Stdio::null()).stdout(output.of_child()?).stderr(output.of_child()?);
    // SAFETY: between fork and exec it only sets the signal mask, which is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
    let child = command.spawn().during("starting the machine's program")?;
    // Of its own, so that what it starts can stand beside it.
    cgroups::place(child.id(), "server")?;
    Ok(child)
}

/// Reaps all children that have ended; true when the program was among them.
fn reap(program: Option<&Child>) -> bool {
    let mut ended = false;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(status) => {
                if status.pid().is_some_and(|pid| program.is_some_and(|p| p.id() == pid.as_raw() as u32)) {
                    eprintln!("tug-init: the server ended: {status:?}");
                    ended = true;
                }
            }
        }
    }
}

/// The next signal, or `None` when `wait` is over.
fn next_signal(signals: &SignalFd, wait: Option<Duration>, output: &mut Output) -> Result<Option<Signal>> {
    if !output.take_until(signals.as_fd(), wait)? {
        return Ok(None);
    }
    let info = signals.read_signal().during("reading a signal")?;
    Ok(info.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok()))
}

/// Ends the program, then all else. What doesn't end in time is killed by the kernel when this process ends.
fn shut_down(signals: &SignalFd, program: Option<Child>, output: &mut Output) -> Result<ExitCode> {
    let deadline = Instant::now() + STOP_GRACE;
    if let Some(program) = program {
        terminate(program.id() as i32);
        while !reap(Some(&program)) && Instant::now() < deadline {
            next_signal(signals, Some(deadline.saturating_duration_since(Instant::now())), output)?;
        }
    }
    let ending: Vec<_> = others().into_iter().filter(|p| p.catches_term).collect();
    let watched: Vec<_> = ending
        .iter()
        .filter_map(|process| {
            let pid = rustix::process::Pid::from_raw(process.pid)?;
            let watched = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
            terminate(process.pid);
            Some(watched)
        })
        .collect();
    for process in &watched {
        output.take_until(process.as_fd(), Some(deadline.saturating_duration_since(Instant::now())))?;
    }
    output.take_the_rest()?;
    Ok(ExitCode::SUCCESS)
}

fn terminate(pid: i32) {
    // It may have ended meanwhile, which is what is wanted.
    let _ended_already = kill(Pid::from_raw(pid), Signal::SIGTERM);
}

struct Process {
    pid: i32,
    /// Whether SIGTERM runs a handler of its: waiting for a process that ignores it would be in vain.
    catches_term: bool,
}

/// All processes but this one and the shims, which end with their containers.
fn others() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != 1);
    pids.filter_map(|pid| {
        let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        if field("Name:")?.starts_with("tug-shim") {
            return None;
        }
        let caught = u64::from_str_radix(field("SigCgt:")?, 16).ok()?;
        let term = 1u64 << (Signal::SIGTERM as u64 - 1);
        Some(Process { pid, catches_term: caught & term != 0 })
    })
    .collect()
}
