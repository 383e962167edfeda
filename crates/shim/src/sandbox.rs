//! Becoming a shim: a session and control group of its own, the sandbox's namespaces, bound to files so that others can
//! join them, and their first settings.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::cgroup;
use crate::protocol::{CONFIG, Sandbox};

/// The sandbox as this process now holds it.
pub struct Held {
    /// Init of the shared pid namespace.
    pub init: Option<Pid>,
}

/// Reads the sandbox's configuration from `dir` and becomes its shim.
///
/// # Errors
/// With the step that failed in the message.
pub fn enter(dir: &Path) -> io::Result<Held> {
    close_inherited().map_err(step("close what the daemon left open"))?;
    let text = fs::read(dir.join(CONFIG)).map_err(step("read the sandbox's configuration"))?;
    let config: Sandbox = serde_json::from_slice(&text)?;
    // Fails only for a process group's leader, which then has left its session already.
    let _ = nix::unistd::setsid();
    // Containers inherit it unless they ask for another.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::sys::prctl::set_name(c"tug-shim").map_err(step("set the process's name"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(step("become a subreaper"))?;
    cgroup::create(&config.cgroup).map_err(step("make the shim's control group"))?;
    cgroup::enter(&config.cgroup, std::process::id()).map_err(step("enter the shim's control group"))?;
    if let Err(err) = fs::write("/proc/self/oom_score_adj", config.oom_score_adj.to_string()) {
        // Inside somebody's container root may lack CAP_SYS_RESOURCE; the shim then is as killable as the rest.
        eprintln!("set the OOM score: {err}");
    }

    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, config.net);
    own.set(CloneFlags::CLONE_NEWIPC, config.ipc);
    own.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
    unshare(own).map_err(step("make namespaces"))?;
    if config.net {
        loopback_up().map_err(step("bring loopback up"))?;
    }
    if let Some(hostname) = &config.hostname {
        nix::unistd::sethostname(hostname).map_err(step("set the host name"))?;
    }
    for (name, value) in &config.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, value).map_err(|err| io::Error::new(err.kind(), format!("set sysctl {name}: {err}")))?;
    }
    let init = if config.pid { Some(pid_namespace().map_err(step("make the pid namespace"))?) } else { None };

    let me = std::process::id();
    let mut bound = Vec::new();
    if config.net {
        bound.push(("net", me));
    }
    if config.ipc {
        bound.push(("ipc", me));
    }
    if config.hostname.is_some() {
        bound.push(("uts", me));
    }
    if let Some(init) = init {
        bound.push(("pid", init.as_raw() as u32));
    }
    fs::create_dir_all(&config.namespaces).map_err(step("make the namespaces' directory"))?;
    for (name, pid) in bound {
        let target = config.namespaces.join(name);
        File::create(&target).map_err(step("make a namespace's file"))?;
        let source = format!("/proc/{pid}/ns/{name}");
        mount(Some(source.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(step("bind a namespace"))?;
    }
    Ok(Held { init })
}

/// Descriptors that a daemon's library opened without close-on-exec would stay open as long as the sandbox lives.
fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing is open yet but the standard streams, which are left.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> io::Error {
    move |err| {
        let err = err.into();
        io::Error::new(err.kind(), format!("{what}: {err}"))
    }
}

/// Lets go of the daemon's pipes, which would otherwise keep it waiting or, broken, kill the shim.
pub fn leave_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    // Standard error stays: it is the shim's log file, where a panic is seen.
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is valid: it is plain integers and bytes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which `request` is, for as long as the call lasts.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Forks the init of a new pid namespace, which dies with this process. What else this process forks stays in its own.
fn pid_namespace() -> io::Result<Pid> {
    let own = File::open("/proc/self/ns/pid")?;
    let (mut reader, mut writer) = io::pipe()?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: the shim has one thread, so the child may use the heap and any lock.
    let init = match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            // Whose parent has died before it could ask for this finds nobody to tell.
            let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            if tied.map_err(io::Error::from).and_then(|()| writer.write_all(b"up")).is_err() {
                std::process::exit(1);
            }
            drop(writer);
            reap_for_ever()
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    setns(own, CloneFlags::CLONE_NEWPID)?;
    reader.read_exact(&mut [0; 2]).map_err(|_| io::Error::other("its first process did not start"))?;
    Ok(init)
}

/// Init of a shared pid namespace: adopts what its containers leave behind, as a pause container does.
fn reap_for_ever() -> ! {
    // Shown in a pod's `ps`; a name that can't be set changes nothing else.
    let _ = nix::sys::prctl::set_name(c"tug-pod");
    // It must not hold the daemon's pipes open; without /dev/null it holds them and the daemon does not mind.
    drop(leave_stdio());
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    // Can't fail for a valid set and mode.
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None);
    loop {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        // Woken too early is harmless: the loop looks again.
        let _ = signals.wait();
    }
}

/// A pipe whose ends close on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
