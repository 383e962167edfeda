//! Sessions: processes started in a running container, and the container's own streams.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tug_shim::confine::Confinement;
use tug_shim::protocol::{Exec, Reply, Request};

use crate::containers::CONFINEMENT;
use crate::engine::{Engine, Error, Result, Session, blocking, watched};
use crate::record;
use crate::runtime_spec::merged_env;
use crate::shim_client::{Call, call, sandbox_dir};
use crate::spec::*;
use crate::{capabilities, users};

/// Terminal sizes that wait to be set; a person resizing a window makes a few a second.
const RESIZES: usize = 16;

impl Engine {
    /// # Errors
    /// `Conflict` when the container does not run; in Docker's words when the program can't.
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Session> {
        let status = self.entry(id)?.now();
        match status.state {
            State::Running => {}
            State::Paused => {
                return Err(Error::Conflict(format!("Container {id} is paused, unpause the container before exec")));
            }
            _ => return Err(Error::Conflict(format!("container {id} is not running"))),
        }
        let run = sandbox_dir(&self.config.run_dir, &status.sandbox);
        let name = uuid::Uuid::new_v4().simple().to_string();
        let process = run.join(format!("{name}.json"));
        let (dir, file) = (self.container_dir(id), process.clone());
        let (tty, stdin, tied) = (spec.tty, spec.stdin, !spec.detached);
        let prepared = blocking(move || {
            record::write(&file, &exec_process(&dir, &status.spec, &spec)?)?;
            exec_confinement(&dir, &status.spec, &spec)
        });
        let exec = Exec { id: id.to_owned(), process, confinement: prepared.await?, tty, tied };
        match tty {
            true => exec_terminal(&run, exec).await,
            false => exec_pipes(&run, exec, stdin).await,
        }
    }

    /// The container's own streams, from now on; with `stdin` when it has one.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Session> {
        self.attach_to(id, stdin, false).await
    }

    /// The streams of a container's next run, from its first byte on. Its sandbox is there, the container not started.
    ///
    /// # Errors
    /// When the sandbox isn't there.
    pub async fn attach_early(&self, id: &str, stdin: bool) -> Result<Session> {
        self.attach_to(id, stdin, true).await
    }

    async fn attach_to(&self, id: &str, stdin: bool, early: bool) -> Result<Session> {
        let status = self.entry(id)?.now();
        let run = sandbox_dir(&self.config.run_dir, &status.sandbox);
        let stdin = stdin && status.spec.stdin;
        let streams = Streams::new(stdin, !status.spec.tty)?;
        let request = Request::Attach { id: id.to_owned(), stdin, stdout: true, stderr: !status.spec.tty, early };
        let sent = Call::ask(&run, &request, &streams.given()).await?;
        sent.answer("attach").await?;
        let (resize, mut sizes) = mpsc::channel::<Size>(RESIZES);
        let id = id.to_owned();
        tokio::spawn(async move {
            while let Some(Size { rows, columns }) = sizes.recv().await {
                let request = Request::Resize { id: id.clone(), rows, columns };
                // A container that has ended has no size.
                let _ = call(&run, &request, "resize terminal").await;
            }
        });
        Ok(streams.session(resize, exit_of(sent, true)))
    }
}

/// The OCI `process` of an exec: the container's own, but for what is asked.
fn exec_process(dir: &Path, container: &ContainerSpec, spec: &ExecSpec) -> Result<Value> {
    if spec.command.is_empty() {
        return Err(Error::Invalid("No exec command specified".into()));
    }
    let config: Value = record::read(&dir.join("config.json")).ok_or_else(configuration_gone)?;
    let own = &config["process"];
    let env: Vec<String> = serde_json::from_value(own["env"].clone()).unwrap_or_default();
    let mut extra = spec.env.clone();
    if spec.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        extra.insert(0, "TERM=xterm".into());
    }
    let mut user = own["user"].clone();
    if let Some(name) = &spec.user {
        let found = users::resolve(&dir.join("merged"), name, container.image_groups)?;
        let identity = found.identity(&container.supplemental_groups);
        user = json!({"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups});
        extra.insert(0, format!("HOME={}", found.home));
    }
    let mut process = json!({
        "terminal": spec.tty,
        "user": user,
        "args": spec.command,
        "env": merged_env([env, extra]),
        "cwd": spec.working_dir.as_ref().map_or_else(|| own["cwd"].clone(), |dir| json!(dir)),
        "oomScoreAdj": own["oomScoreAdj"],
    });
    for name in ["noNewPrivileges", "rlimits"] {
        if !own[name].is_null() {
            process[name] = own[name].clone();
        }
    }
    Ok(process)
}

/// The container's own, but for capabilities.
fn exec_confinement(dir: &Path, container: &ContainerSpec, spec: &ExecSpec) -> Result<Confinement> {
    let own: Confinement = record::read(&dir.join(CONFINEMENT)).ok_or_else(configuration_gone)?;
    let privileged = spec.privileged || container.privileged;
    let capabilities = capabilities::granted(privileged, &container.cap_add, &container.cap_drop)?;
    Ok(Confinement { capabilities: capabilities::bits(&capabilities), propagation: Vec::new(), ..own })
}

fn configuration_gone() -> Error {
    Error::Failed { step: "exec", message: "the container's configuration is gone".into() }
}

async fn exec_pipes(run: &Path, exec: Exec, stdin: bool) -> Result<Session> {
    let streams = Streams::new(stdin, true)?;
    let null;
    let mut given = streams.given();
    if !stdin {
        null = File::open("/dev/null").map_err(no_streams)?;
        given.insert(0, null.as_fd());
    }
    let tied = exec.tied;
    let sent = Call::ask(run, &Request::Exec(exec), &given).await?;
    drop(given);
    let pid = started(&sent.answer("exec failed").await?);
    // Without a terminal there are no sizes; they are taken and dropped with the receiver.
    let (resize, _) = mpsc::channel(RESIZES);
    Ok(Session { pid, ..streams.session(resize, exit_of(sent, tied)) })
}

fn started(reply: &Reply) -> Option<u32> {
    match reply {
        Reply::Started { pid } => Some(*pid),
        _ => None,
    }
}

async fn exec_terminal(run: &Path, exec: Exec) -> Result<Session> {
    let tied = exec.tied;
    let sent = Call::ask(run, &Request::Exec(exec), &[]).await?;
    let (reply, fds) = sent.answer_with_fds("exec failed").await?;
    let master = fds.into_iter().next().ok_or_else(|| no_streams(io::Error::other("no terminal came")))?;
    let writer = Terminal::new(master.try_clone().map_err(no_streams)?).map_err(no_streams)?;
    let sized = master.try_clone().map_err(no_streams)?;
    let reader = Terminal::new(master).map_err(no_streams)?;
    let (resize, mut sizes) = mpsc::channel::<Size>(RESIZES);
    tokio::spawn(async move {
        while let Some(Size { rows, columns }) = sizes.recv().await {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // A program that has ended has no size.
            let _ = rustix::termios::tcsetwinsize(&sized, size);
        }
    });
    Ok(Session {
        pid: started(&reply),
        stdin: Some(Box::new(writer)),
        stdout: Some(Box::new(reader)),
        stderr: None,
        resize,
        exit: exit_of(sent, tied),
    })
}

/// Waits for the end in a task of its own, which lasts as long as the process or its shim, and no longer than anybody
/// waits for it when it is tied to that: closing the connection then ends an exec, or an attachment.
fn exit_of(sent: Call, tied: bool) -> oneshot::Receiver<i32> {
    let (mut tell, exit) = oneshot::channel();
    tokio::spawn(async move {
        loop {
            let reply = tokio::select! {
                reply = sent.reply() => reply,
                () = tell.closed(), if tied => return,
            };
            match reply {
                Some(Reply::Exited(exit)) => {
                    // Nobody may be waiting any more.
                    let _ = tell.send(exit.code);
                    return;
                }
                Some(_) => {}
                None => return,
            }
        }
    });
    exit
}

fn no_streams(err: io::Error) -> Error {
    Error::Failed { step: "make streams", message: err.to_string() }
}

/// Both ends of a session's pipes: ours, and those given to the shim.
struct Streams {
    stdin: Option<(pipe::Sender, OwnedFd)>,
    stdout: (pipe::Receiver, OwnedFd),
    stderr: Option<(pipe::Receiver, OwnedFd)>,
}

impl Streams {
    fn new(stdin: bool, stderr: bool) -> Result<Self> {
        let output = || -> io::Result<_> {
            let (reader, writer) = cloexec_pipe()?;
            Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
        };
        let make = || -> io::Result<Self> {
            let stdin = match stdin {
                true => {
                    let (reader, writer) = cloexec_pipe()?;
                    Some((pipe::Sender::from_owned_fd(writer)?, reader))
                }
                false => None,
            };
            let stderr = if stderr { Some(output()?) } else { None };
            Ok(Streams { stdin, stdout: output()?, stderr })
        };
        make().map_err(no_streams)
    }

    fn given(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        let stdin = self.stdin.as_ref().map(|(_, fd)| fd.as_fd());
        let stderr = self.stderr.as_ref().map(|(_, fd)| fd.as_fd());
        stdin.into_iter().chain([self.stdout.1.as_fd()]).chain(stderr).collect()
    }

    /// Drops the given ends, so that ours see the end of the others.
    fn session(self, resize: mpsc::Sender<Size>, exit: oneshot::Receiver<i32>) -> Session {
        Session {
            pid: None,
            stdin: self.stdin.map(|(pipe, _)| Box::new(pipe) as _),
            stdout: Some(Box::new(self.stdout.0)),
            stderr: self.stderr.map(|(pipe, _)| Box::new(pipe) as _),
            resize,
            exit,
        }
    }
}

fn cloexec_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// A terminal's master. Where a pipe ends, it says EIO.
struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Terminal(watched(master)?))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|master| Ok(rustix::io::read(master, &mut *unfilled)?)) {
                Ok(Ok(bytes)) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(err)) if err.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(err)) => return Poll::Ready(Err(err)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|master| Ok(rustix::io::write(master, bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no half to close: its user types the end-of-file character.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
