//! The shim's loop: it waits for children, requests, output and input, and never for any one of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

use crate::attach::Client;
use crate::cgroup;
use crate::console::Console;
use crate::container::Container;
use crate::launch::{self, Launch, Stdio, What};
use crate::protocol::{self, Exec, Exit, Failure, FailureKind, Reply, Request, SOCKET, Start};
use crate::sandbox::Held;

/// Connections beyond this are closed at once; a daemon needs one a container, exec and attach.
const CONNECTIONS: usize = 4096;

pub struct Supervisor {
    dir: PathBuf,
    held: Held,
    listener: OwnedFd,
    signals: SignalFd,
    connections: BTreeMap<u64, OwnedFd>,
    subscribers: Vec<u64>,
    /// Connections that asked for all containers while one was being started.
    listing: Vec<u64>,
    next: u64,
    containers: BTreeMap<String, Container>,
    /// Attached to containers that are still to be started.
    early: HashMap<String, Vec<Client>>,
    launches: Vec<(Purpose, Launch)>,
    /// Running execs by their process.
    execs: HashMap<i32, Running>,
    /// Ends of children not known by then, while a launch is under way: one of them may be its.
    unclaimed: HashMap<i32, i32>,
    /// Connections that wait for the shutdown they asked for.
    shutdown: Vec<u64>,
}

/// What a launch is for.
struct Purpose {
    connection: u64,
    container: String,
    /// For an exec, where its terminal will come and whether it is tied to the connection.
    exec: Option<(Option<Console>, bool)>,
}

/// An exec: the connection that waits for its end, and the container's control group when it is tied to that connection.
struct Running {
    connection: u64,
    tied_in: Option<String>,
}

/// What a polled descriptor is.
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Launch(usize),
    Console(String),
    Output(String, usize),
    Input(String),
    ClientInput(String, usize),
    ClientOutput(String, usize, usize),
}

impl Supervisor {
    pub fn new(dir: &Path, held: Held) -> io::Result<Self> {
        fs::create_dir_all(dir.join("exits"))?;
        fs::create_dir_all(dir.join("run"))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        Ok(Supervisor {
            dir: dir.to_path_buf(),
            held,
            listener: protocol::listen(dir)?,
            signals: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            connections: BTreeMap::new(),
            subscribers: Vec::new(),
            listing: Vec::new(),
            next: 0,
            containers: BTreeMap::new(),
            early: HashMap::new(),
            launches: Vec::new(),
            execs: HashMap::new(),
            unclaimed: HashMap::new(),
            shutdown: Vec::new(),
        })
    }

    pub fn run(mut self) -> ExitCode {
        loop {
            if !self.shutdown.is_empty() && self.is_empty() {
                return self.leave();
            }
            for source in self.wait() {
                self.handle(source);
            }
            for container in self.containers.values_mut() {
                container.drop_idle_clients();
            }
        }
    }

    /// Waits until something is ready. The set is made anew each time from what there is, so that it can't go stale.
    fn wait(&self) -> Vec<Source> {
        let mut polled = vec![(self.listener.as_fd(), PollFlags::IN, Source::Listener)];
        polled.push((self.signals.as_fd(), PollFlags::IN, Source::Signals));
        for (id, connection) in &self.connections {
            polled.push((connection.as_fd(), PollFlags::IN, Source::Connection(*id)));
        }
        for (index, (_, launch)) in self.launches.iter().enumerate() {
            polled.push((launch.pipe.as_fd(), PollFlags::IN, Source::Launch(index)));
        }
        for (id, container) in &self.containers {
            if let Some(console) = &container.console {
                polled.push((console.as_fd(), PollFlags::IN, Source::Console(id.clone())));
            }
            for (which, output) in container.outputs.iter().enumerate() {
                if let Some(output) = output {
                    polled.push((output.as_fd(), PollFlags::IN, Source::Output(id.clone(), which)));
                }
            }
            if let Some(input) = container.input.as_ref().filter(|_| container.input_waits()) {
                polled.push((input.as_fd(), PollFlags::OUT, Source::Input(id.clone())));
            }
            for (index, client) in container.clients.iter().enumerate() {
                if let Some(input) = client.input.as_ref().filter(|_| container.wants_input()) {
                    polled.push((input.as_fd(), PollFlags::IN, Source::ClientInput(id.clone(), index)));
                }
                for (which, output) in client.outputs.iter().enumerate() {
                    if let Some(output) = output {
                        let flags = if output.waits() { PollFlags::OUT } else { PollFlags::empty() };
                        polled.push((output.pipe.as_fd(), flags, Source::ClientOutput(id.clone(), index, which)));
                    }
                }
            }
        }
        let mut fds: Vec<PollFd<'_>> =
            polled.iter().map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        if poll(&mut fds, None).is_err() {
            // Interrupted: the next round looks again.
            return Vec::new();
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        polled.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|((_, _, source), _)| source).collect()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {
                // Only a wake-up: which children ended is asked below.
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Source::Connection(id) => self.serve(id),
            Source::Launch(index) => self.launched(index),
            Source::Console(id) => {
                if let Some(container) = self.containers.get_mut(&id)
                    && let Err(err) = container.take_console()
                {
                    eprintln!("terminal of {id}: {err}");
                }
            }
            Source::Output(id, which) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.read_output(which);
                }
            }
            Source::Input(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.write_input();
                }
            }
            Source::ClientInput(id, client) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.read_input(client);
                }
            }
            Source::ClientOutput(id, client, which) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.flush(client, which);
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(connection) = rustix::net::accept_with(&self.listener, flags) {
            if self.connections.len() < CONNECTIONS {
                self.connections.insert(self.next, connection);
                self.next += 1;
            }
        }
    }

    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (request, fds) = match protocol::receive(connection) {
            Ok(Some(message)) => message,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            Ok(None) | Err(_) => return self.disconnect(id),
        };
        let reply = match request {
            Request::List => {
                self.listing.push(id);
                self.list();
                return;
            }
            Request::Start(start) => match self.start(id, start) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Request::Exec(exec) => match self.exec(id, exec, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Request::Kill { id, signal, all } => self.kill(&id, signal, all),
            Request::Resize { id, rows, columns } => self
                .container(&id)
                .and_then(|container| container.resize(rows, columns).map_err(other))
                .map(|()| Reply::Done),
            Request::Attach { id: container, stdin, stdout, stderr, early } => {
                self.attach(id, &container, [stdin, stdout, stderr], early, fds)
            }
            Request::Forget { id } => self.forget(&id),
            Request::Subscribe => {
                self.subscribers.push(id);
                Ok(Reply::Done)
            }
            Request::Shutdown => {
                self.shutdown.push(id);
                for container in self.containers.values() {
                    if let Some(pid) = container.pid {
                        // Gone already is what is wanted.
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                        // Where nothing is frozen, there is nothing to thaw.
                        let _ = cgroup::set_frozen(container.cgroup(), false);
                    }
                }
                return;
            }
        };
        self.send(id, &reply.unwrap_or_else(Reply::Failed));
    }

    /// A container that is being started is waited for: whoever asks takes over from a daemon that died meanwhile.
    fn list(&mut self) {
        if self.launches.iter().any(|(purpose, _)| purpose.exec.is_none()) {
            return;
        }
        let containers = Reply::Containers(self.containers.values().map(Container::state).collect());
        for connection in std::mem::take(&mut self.listing) {
            self.send(connection, &containers);
        }
    }

    /// A daemon that does not read its replies is disconnected; it then connects and asks again.
    fn send(&mut self, id: u64, reply: &Reply) {
        self.send_with(id, reply, None);
    }

    fn send_with(&mut self, id: u64, reply: &Reply, fd: Option<&OwnedFd>) {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        let sent = self.connections.get(&id).map(|connection| protocol::send(connection, reply, &fds));
        if matches!(sent, Some(Err(_))) {
            self.disconnect(id);
        }
    }

    fn disconnect(&mut self, id: u64) {
        self.connections.remove(&id);
        self.subscribers.retain(|subscriber| *subscriber != id);
        self.listing.retain(|waiting| *waiting != id);
        self.shutdown.retain(|waiting| *waiting != id);
        for clients in self.early.values_mut() {
            clients.retain(|client| client.connection != Some(id));
        }
        for (pid, exec) in self.execs.iter().filter(|(_, exec)| exec.connection == id) {
            if let Some(cgroup) = &exec.tied_in {
                cgroup::kill_session(cgroup, *pid);
            }
        }
        for container in self.containers.values_mut() {
            for client in &mut container.clients {
                // Whoever attached has gone: its input ends as if it had closed it.
                if client.connection == Some(id) {
                    client.connection = None;
                    client.outputs = [None, None];
                }
            }
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Failure> {
        let missing =
            || Failure { kind: FailureKind::NotFound, message: format!("container {id} is not in this sandbox") };
        self.containers.get_mut(id).ok_or_else(missing)
    }

    fn running(&mut self, id: &str) -> Result<i32, Failure> {
        let container = self.container(id)?;
        let stopped = || Failure { kind: FailureKind::Conflict, message: format!("container {id} is not running") };
        container.pid.ok_or_else(stopped)
    }

    fn start(&mut self, connection: u64, start: Start) -> Result<(), Failure> {
        if !self.shutdown.is_empty() {
            return Err(Failure { kind: FailureKind::Conflict, message: "the sandbox is being removed".into() });
        }
        if let Some(earlier) = self.containers.get(&start.id) {
            if earlier.exit.is_none() {
                let message = format!("container {} is already running", start.id);
                return Err(Failure { kind: FailureKind::Conflict, message });
            }
            self.forget(&start.id)?;
        }
        let (mut container, stdio) = Container::new(&start, &self.dir).map_err(other)?;
        container.clients = self.early.remove(&start.id).unwrap_or_default();
        let pipe = launch::start(
            &start.id,
            &self.dir.join("run"),
            What::Container { bundle: start.bundle, cgroup: start.cgroup },
            start.confinement,
            stdio,
        );
        let purpose = Purpose { connection, container: start.id.clone(), exec: None };
        self.launches.push((purpose, Launch::new(pipe.map_err(other)?)));
        self.containers.insert(start.id, container);
        Ok(())
    }

    fn exec(&mut self, connection: u64, exec: Exec, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        self.running(&exec.id)?;
        let cgroup = self.container(&exec.id)?.cgroup().to_owned();
        let (console, stdio) = if exec.tty {
            let console = Console::listen(&self.dir, &format!("{connection}.tty")).map_err(other)?;
            let path = console.path.clone();
            (Some(console), Stdio::Console(path))
        } else {
            let files = fds.try_into().map_err(|_| other("an exec needs its three streams"))?;
            (None, Stdio::Files(files))
        };
        let pipe = launch::start(
            &exec.id,
            &self.dir.join("run"),
            What::Exec { process: exec.process, cgroup },
            exec.confinement,
            stdio,
        );
        let purpose = Purpose { connection, container: exec.id, exec: Some((console, exec.tied)) };
        self.launches.push((purpose, Launch::new(pipe.map_err(other)?)));
        Ok(())
    }

    fn launched(&mut self, index: usize) {
        let Some((_, launch)) = self.launches.get_mut(index) else { return };
        let Some(result) = launch.progress() else { return };
        let (purpose, _) = self.launches.remove(index);
        match (result, purpose.exec) {
            (Ok(pid), None) => self.container_runs(purpose.connection, &purpose.container, pid),
            (Ok(pid), Some((console, tied))) => {
                self.exec_runs(purpose.connection, &purpose.container, pid, console, tied)
            }
            (Err(message), exec) => {
                if exec.is_none() {
                    self.containers.remove(&purpose.container);
                    self.drop_state(&purpose.container);
                }
                self.send(purpose.connection, &Reply::Failed(other(message)));
            }
        }
        if self.launches.is_empty() {
            self.unclaimed.clear();
        }
        self.list();
    }

    fn container_runs(&mut self, connection: u64, container: &str, pid: i32) {
        if let Some(container) = self.containers.get_mut(container) {
            container.pid = Some(pid);
        }
        self.send(connection, &Reply::Started { pid: pid as u32 });
        if !self.shutdown.is_empty() {
            // Gone already is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(code) = self.unclaimed.remove(&pid) {
            self.ended(pid, code);
        }
    }

    fn exec_runs(&mut self, connection: u64, container: &str, pid: i32, console: Option<Console>, tied: bool) {
        let cgroup = self.containers.get(container).map(|container| container.cgroup().to_owned());
        self.execs.insert(pid, Running { connection, tied_in: cgroup.filter(|_| tied) });
        match console.map(Console::take).transpose() {
            Ok(master) => self.send_with(connection, &Reply::Started { pid: pid as u32 }, master.as_ref()),
            Err(err) => self.send(connection, &Reply::Failed(other(format!("its terminal did not come: {err}")))),
        }
        if !self.connections.contains_key(&connection) {
            // Its caller went while it was being started.
            self.disconnect(connection);
        }
        if let Some(code) = self.unclaimed.remove(&pid) {
            self.ended(pid, code);
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(pid, code) => self.ended(pid.as_raw(), code),
                WaitStatus::Signaled(pid, signal, _) => self.ended(pid.as_raw(), 128 + signal as i32),
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
    }

    fn ended(&mut self, pid: i32, code: i32) {
        if let Some(exec) = self.execs.remove(&pid) {
            let exit = Exit { id: String::new(), run: 0, code, oom_killed: false, at_nanos: 0 };
            self.send(exec.connection, &Reply::Exited(exit));
            return;
        }
        let Some(container) = self.containers.values_mut().find(|container| container.pid == Some(pid)) else {
            if !self.launches.is_empty() {
                self.unclaimed.insert(pid, code);
            }
            return;
        };
        let exit = container.ended(code, &self.dir.join("exits"));
        let attached = container.clients.iter_mut().filter_map(|client| client.connection.take());
        let told: Vec<u64> = attached.chain(self.subscribers.iter().copied()).collect();
        for connection in told {
            self.send(connection, &Reply::Exited(exit.clone()));
        }
    }

    fn kill(&mut self, id: &str, signal: i32, all: bool) -> Result<Reply, Failure> {
        let pid = self.running(id)?;
        let cgroup = self.container(id)?.cgroup().to_owned();
        if all && signal == libc::SIGKILL {
            cgroup::kill(&cgroup);
            return Ok(Reply::Done);
        }
        let pids = if all { cgroup::processes(&cgroup) } else { vec![pid as u32] };
        for pid in pids {
            // SAFETY: kill(2) touches no memory. It is not nix's, whose signals leave out the real-time ones.
            if unsafe { libc::kill(pid as i32, signal) } < 0 {
                let err = io::Error::last_os_error();
                if err.raw_os_error() != Some(libc::ESRCH) {
                    return Err(other(err));
                }
            }
        }
        Ok(Reply::Done)
    }

    fn attach(
        &mut self,
        connection: u64,
        id: &str,
        wanted: [bool; 3],
        early: bool,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let mut fds = fds.into_iter();
        let client = Client::new(connection, wanted.map(|wanted| if wanted { fds.next() } else { None }));
        let client = client.map_err(other)?;
        if early {
            self.early.entry(id.to_owned()).or_default().push(client);
            return Ok(Reply::Done);
        }
        let container = self.container(id)?;
        if container.exit.is_some() {
            return Err(Failure { kind: FailureKind::Conflict, message: format!("container {id} is not running") });
        }
        container.clients.push(client);
        Ok(Reply::Done)
    }

    fn forget(&mut self, id: &str) -> Result<Reply, Failure> {
        if self.containers.get(id).is_some_and(|container| container.exit.is_none()) {
            return Err(Failure { kind: FailureKind::Conflict, message: format!("container {id} is running") });
        }
        self.containers.remove(id);
        self.drop_state(id);
        Ok(Reply::Done)
    }

    /// The OCI library's record and the exit's: neither is there for a container that never started.
    fn drop_state(&self, id: &str) {
        for result in [
            fs::remove_dir_all(self.dir.join("run").join(id)),
            fs::remove_file(self.dir.join("exits").join(format!("{id}.json"))),
        ] {
            if let Err(err) = result.filter_missing() {
                eprintln!("forget {id}: {err}");
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.launches.is_empty() && self.containers.values().all(|container| container.pid.is_none())
    }

    fn leave(mut self) -> ExitCode {
        if let Some(init) = self.held.init {
            // Gone already is what is wanted.
            let _ = kill(init, Signal::SIGKILL);
            let _ = waitpid(init, None);
        }
        drop(fs::remove_file(self.dir.join(SOCKET)));
        for connection in std::mem::take(&mut self.shutdown) {
            self.send(connection, &Reply::Done);
        }
        ExitCode::SUCCESS
    }
}

fn other(message: impl std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Other, message: message.to_string() }
}

trait FilterMissing {
    /// What is not there needs no removing.
    fn filter_missing(self) -> io::Result<()>;
}

impl FilterMissing for io::Result<()> {
    fn filter_missing(self) -> io::Result<()> {
        self.or_else(|err| if err.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(err) })
    }
}
