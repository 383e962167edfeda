//! The daemon's side of a shim's socket.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use tokio::io::unix::AsyncFd;
use tug_shim::protocol::{self, Failure, FailureKind, Reply, Request};

use crate::engine::{Error, Result, watched};

/// One request under way and its replies.
pub struct Call(AsyncFd<OwnedFd>);

impl Call {
    /// Connects to the shim with this run directory and asks.
    ///
    /// # Errors
    /// When no shim answers there.
    pub async fn ask(dir: &Path, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Self> {
        let failed = |err: io::Error| Error::Failed { step: "reach the sandbox's shim", message: err.to_string() };
        let socket = watched(protocol::connect(dir).map_err(failed)?).map_err(failed)?;
        loop {
            let mut ready = socket.writable().await.map_err(failed)?;
            match ready.try_io(|socket| protocol::send(socket, request, fds)) {
                Ok(sent) => {
                    sent.map_err(failed)?;
                    break;
                }
                Err(_would_block) => {}
            }
        }
        Ok(Call(socket))
    }

    /// The next reply; `None` when the shim is gone.
    pub async fn reply(&self) -> Option<Reply> {
        self.reply_with_fds().await.map(|(reply, _)| reply)
    }

    async fn reply_with_fds(&self) -> Option<(Reply, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.0.readable().await.ok()?;
            if let Ok(received) = ready.try_io(protocol::receive::<Reply>) {
                return received.ok().flatten();
            }
        }
    }

    /// The next reply, failures turned into errors.
    ///
    /// # Errors
    /// What the shim says, or that it is gone.
    pub async fn answer(&self, step: &'static str) -> Result<Reply> {
        self.answer_with_fds(step).await.map(|(reply, _)| reply)
    }

    /// The same with the descriptors that came along.
    ///
    /// # Errors
    /// As [`Call::answer`].
    pub async fn answer_with_fds(&self, step: &'static str) -> Result<(Reply, Vec<OwnedFd>)> {
        match self.reply_with_fds().await {
            Some((Reply::Failed(Failure { kind, message }), _)) => Err(match kind {
                FailureKind::NotFound => Error::NotFound(message),
                FailureKind::Conflict => Error::Conflict(message),
                FailureKind::Other => Error::Failed { step, message },
            }),
            Some(answer) => Ok(answer),
            None => Err(Error::Failed { step, message: "the sandbox's shim died".into() }),
        }
    }
}

/// Asks and takes the one answer.
///
/// # Errors
/// As [`Call::ask`] and [`Call::answer`].
pub async fn call(dir: &Path, request: &Request, step: &'static str) -> Result<Reply> {
    Call::ask(dir, request, &[]).await?.answer(step).await
}

/// Run directory of a sandbox.
pub fn sandbox_dir(run_dir: &Path, id: &str) -> PathBuf {
    run_dir.join("sandboxes").join(id)
}
