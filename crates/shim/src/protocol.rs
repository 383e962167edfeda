//! What a daemon and a shim say to each other: one JSON message a packet over a sequential-packet Unix socket, file
//! descriptors beside it. A connection carries one request and its replies.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::confine::Confinement;

/// Longest message; environments and the like travel in files.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Most descriptors a message carries: stdin, stdout, stderr.
const MESSAGE_FDS: usize = 3;

/// File in the sandbox's run directory from which a shim reads its [`Sandbox`].
pub const CONFIG: &str = "sandbox.json";
/// The shim's socket in the sandbox's run directory.
pub const SOCKET: &str = "shim.sock";

/// The sandbox a shim is to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    /// Own network namespace, with loopback up.
    pub net: bool,
    pub ipc: bool,
    /// Own host name, in a namespace of its own.
    pub hostname: Option<String>,
    /// One pid namespace for all containers, with an init that reaps.
    pub pid: bool,
    /// Written inside the namespaces; the caller has checked that they are namespaced.
    pub sysctls: BTreeMap<String, String>,
    /// Directory in which `net`, `ipc`, `uts` and `pid` are bound.
    pub namespaces: PathBuf,
    /// Control group of the shim itself, outside the daemon's and the pod's.
    pub cgroup: String,
    pub oom_score_adj: i32,
}

/// What to do. Descriptors that go with a request are named in its comment, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// All containers, once none is being started: [`Reply::Containers`].
    List,
    /// Create and start: [`Reply::Started`] or [`Reply::Failed`].
    Start(Start),
    /// A process inside a running container: [`Reply::Started`], with its terminal's master if it has one, and
    /// [`Reply::Exited`] in the end. stdin, stdout and stderr, unless it has a terminal.
    Exec(Exec),
    Kill {
        id: String,
        signal: i32,
        /// Every process of the container instead of its first.
        all: bool,
    },
    Resize {
        id: String,
        rows: u16,
        columns: u16,
    },
    /// The container's streams from now on; [`Reply::Exited`] when it ends. Those of stdin, stdout, stderr that are set.
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        /// The container's next run is meant, which hasn't begun.
        early: bool,
    },
    /// Drop what is known of a container that has ended.
    Forget {
        id: String,
    },
    /// [`Reply::Exited`] for each container that ends from now on.
    Subscribe,
    /// Kill everything, answer, exit.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub id: String,
    /// Which run of the container this is; told again with its end.
    pub run: u32,
    /// OCI bundle: `config.json` and what it names.
    pub bundle: PathBuf,
    /// The container's control group, for kills and for counting OOM kills.
    pub cgroup: String,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    /// The container has a pid namespace of its own, which dies with its first process.
    pub own_pid: bool,
    pub confinement: Confinement,
    pub log: crate::log::LogConfig,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    pub id: String,
    /// OCI `process` object in a file, which the shim removes.
    pub process: PathBuf,
    pub confinement: Confinement,
    pub tty: bool,
    /// Killed, with what it started, when the connection goes before it ends.
    pub tied: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Failed(Failure),
    Started { pid: u32 },
    Exited(Exit),
    Containers(Vec<ContainerState>),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    NotFound,
    /// Not in this state: not running, running already.
    Conflict,
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    pub id: String,
    pub run: u32,
    pub pid: Option<u32>,
    pub exit: Option<Exit>,
}

/// How a container or an exec ended; for containers also written to `<dir>/exits/<id>.json` before anybody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub id: String,
    pub run: u32,
    /// 128 + signal when a signal ended it.
    pub code: i32,
    pub oom_killed: bool,
    /// Nanoseconds since 1970.
    pub at_nanos: u64,
}

/// Opens the listening socket in `dir`. The path may be longer than a socket address: it is reached through the
/// directory's descriptor.
pub fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let dir_fd = open_dir(dir)?;
    let socket = socket()?;
    rustix::net::bind(&socket, &address(&dir_fd)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to the shim whose run directory is `dir`.
pub fn connect(dir: &Path) -> io::Result<OwnedFd> {
    let dir_fd = open_dir(dir)?;
    let socket = socket()?;
    rustix::net::connect(&socket, &address(&dir_fd)?)?;
    Ok(socket)
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn address(dir: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one message; `WouldBlock` when the other side does not read.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Receives one message and its descriptors; `None` at the end, `WouldBlock` when there is none yet.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fds)))
}

/// Receives the terminal's master, which the OCI library sends over a console socket.
pub fn receive_console(connection: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    rustix::net::recvmsg(connection, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    master.ok_or_else(|| io::Error::other("no terminal was sent"))
}
