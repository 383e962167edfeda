//! One container as its shim holds it: its process, its streams, its log and those attached to it.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::attach::{Client, Fate, Output};
use crate::cgroup;
use crate::console::Console;
use crate::launch::Stdio;
use crate::log::{Log, Stream};
use crate::protocol::{ContainerState, Exit, Start};
use crate::sandbox::pipe;

const READ_BYTES: usize = 64 * 1024;
/// Most that is still read for a container that has ended while something else keeps writing to its pipes.
const DRAIN_BYTES: usize = 4 << 20;
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

pub struct Container {
    pub id: String,
    run: u32,
    cgroup: String,
    own_pid: bool,
    stdin: bool,
    stdin_once: bool,
    pub pid: Option<i32>,
    pub exit: Option<Exit>,
    log: Log,
    log_fails: bool,
    /// Reading ends of its pipes; a terminal's master stands in the first place.
    pub outputs: [Option<OwnedFd>; 2],
    /// Writing end of its stdin, or the terminal's master.
    pub input: Option<OwnedFd>,
    queue: VecDeque<u8>,
    /// Stdin closes once the queue is written.
    input_closing: bool,
    /// Where the terminal's master arrives.
    pub console: Option<Console>,
    pub clients: Vec<Client>,
}

impl Container {
    /// Opens the log and the streams, a terminal's socket in `dir`; the second value is the container's side of them.
    pub fn new(start: &Start, dir: &Path) -> io::Result<(Self, Stdio)> {
        let mut container = Container {
            id: start.id.clone(),
            run: start.run,
            cgroup: start.cgroup.clone(),
            own_pid: start.own_pid,
            stdin: start.stdin,
            // A terminal outlasts whoever leaves it, as with Docker and containerd.
            stdin_once: start.stdin_once && !start.tty,
            pid: None,
            exit: None,
            log: Log::open(start.log.clone()).map_err(|err| io::Error::new(err.kind(), format!("open log: {err}")))?,
            log_fails: false,
            outputs: [None, None],
            input: None,
            queue: VecDeque::new(),
            input_closing: false,
            console: None,
            clients: Vec::new(),
        };
        if start.tty {
            let console = Console::listen(dir, &format!("{}.tty", start.id))?;
            let path = console.path.clone();
            container.console = Some(console);
            return Ok((container, Stdio::Console(path)));
        }
        let stdin = if start.stdin {
            let (reader, writer) = pipe()?;
            rustix::io::ioctl_fionbio(&writer, true)?;
            container.input = Some(writer);
            reader
        } else {
            fs::File::open("/dev/null")?.into()
        };
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        rustix::io::ioctl_fionbio(&stdout, true)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        container.outputs = [Some(stdout), Some(stderr)];
        Ok((container, Stdio::Files([stdin, out, err])))
    }

    /// Takes the terminal's master, which arrived on the console socket.
    pub fn take_console(&mut self) -> io::Result<()> {
        let Some(console) = self.console.take() else { return Ok(()) };
        let master = console.take()?;
        if self.stdin {
            self.input = Some(master.try_clone()?);
        }
        self.outputs[0] = Some(master);
        Ok(())
    }

    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let Some(master) = &self.outputs[0] else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(master, size)?)
    }

    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    pub fn state(&self) -> ContainerState {
        let (id, pid) = (self.id.clone(), self.pid.map(|pid| pid as u32));
        ContainerState { id, run: self.run, pid, exit: self.exit.clone() }
    }

    /// Moves one read's worth of output to the log and to those attached; false when there was none.
    pub fn read_output(&mut self, which: usize) -> bool {
        let Some(output) = &self.outputs[which] else { return false };
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(output, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            // A terminal says EIO where a pipe ends.
            Ok(0) | Err(_) => {
                self.close_output(which);
                false
            }
            Ok(bytes) => {
                let written = self.log.write(STREAMS[which], &buffer[..bytes]);
                self.complain_once(written);
                for client in &mut self.clients {
                    settle(&mut client.outputs[which], |pipe| pipe.send(&buffer[..bytes]));
                }
                true
            }
        }
    }

    fn close_output(&mut self, which: usize) {
        self.outputs[which] = None;
        let written = self.log.finish(STREAMS[which]);
        self.complain_once(written);
        for client in &mut self.clients {
            settle(&mut client.outputs[which], Output::close);
        }
    }

    /// A full disk fails every write: the shim's own log, on that disk too, names it the first time.
    fn complain_once(&mut self, written: io::Result<()>) {
        if let Err(err) = &written
            && !self.log_fails
        {
            eprintln!("log of {}: {err}", self.id);
        }
        self.log_fails = written.is_err();
    }

    /// A client's input is read only while the container takes it.
    pub fn wants_input(&self) -> bool {
        self.input.is_some() && self.queue.is_empty() && !self.input_closing
    }

    pub fn input_waits(&self) -> bool {
        self.input.is_some() && !self.queue.is_empty()
    }

    /// Moves what a client typed towards the container.
    pub fn read_input(&mut self, client: usize) {
        let Some(input) = self.clients.get(client).and_then(|client| client.input.as_ref()) else { return };
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(input, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => {
                self.clients[client].input = None;
                if self.stdin_once {
                    self.input_closing = true;
                    self.write_input();
                }
            }
            Ok(bytes) => {
                self.queue.extend(&buffer[..bytes]);
                self.write_input();
            }
        }
    }

    pub fn write_input(&mut self) {
        let Some(input) = &self.input else { return };
        while !self.queue.is_empty() {
            match rustix::io::write(input, self.queue.as_slices().0) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.queue.clear();
                    self.input = None;
                    return;
                }
            }
        }
        if self.input_closing {
            self.input = None;
        }
    }

    /// The process is gone: kills what it left behind, reads what it wrote and lays down its exit in `exits`.
    pub fn ended(&mut self, code: i32, exits: &Path) -> Exit {
        if !self.own_pid {
            cgroup::kill(&self.cgroup);
        }
        for which in 0..2 {
            let mut reads = DRAIN_BYTES / READ_BYTES;
            while reads > 0 && self.read_output(which) {
                reads -= 1;
            }
        }
        let oom_killed = cgroup::oom_kills(&self.cgroup) > 0;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let exit = Exit { id: self.id.clone(), run: self.run, code, oom_killed, at_nanos: now.as_nanos() as u64 };
        if let Err(err) = record(exits, &exit) {
            // The daemon still learns it from this shim, as long as that lives.
            eprintln!("exit of {}: {err}", self.id);
        }
        self.pid = None;
        self.input = None;
        self.queue.clear();
        self.console = None;
        self.exit = Some(exit.clone());
        for client in &mut self.clients {
            client.input = None;
            for output in &mut client.outputs {
                settle(output, Output::close);
            }
        }
        exit
    }

    /// Drops clients that have nothing left to get or give.
    pub fn flush(&mut self, client: usize, which: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            settle(&mut client.outputs[which], Output::flush);
        }
    }

    pub fn drop_idle_clients(&mut self) {
        if self.input.is_none() && self.console.is_none() {
            self.clients.iter_mut().for_each(|client| client.input = None);
        }
        self.clients.retain(|client| {
            client.connection.is_some() || client.input.is_some() || client.outputs.iter().any(Option::is_some)
        });
    }
}

fn settle(output: &mut Option<Output>, step: impl FnOnce(&mut Output) -> Fate) {
    if output.as_mut().is_some_and(|output| step(output) == Fate::Over) {
        *output = None;
    }
}

/// Written whole or not at all: a daemon that was dead meanwhile reads it.
fn record(exits: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = exits.join(format!(".{}", exit.id));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    rustix::fs::fdatasync(file.as_fd())?;
    fs::rename(&temporary, exits.join(format!("{}.json", exit.id)))
}
