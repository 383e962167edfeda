//! Clients attached to a container's streams. A slow one never holds up the container: past a bound it is dropped.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Output waiting for a client beyond what its pipe holds.
const QUEUE_BYTES: usize = 1 << 20;

/// An attached client: the descriptors it handed over.
pub struct Client {
    /// Connection that waits for the container's end, unless it has been told or is gone.
    pub connection: Option<u64>,
    pub input: Option<OwnedFd>,
    /// Standard output and standard error.
    pub outputs: [Option<Output>; 2],
}

impl Client {
    /// # Errors
    /// When a descriptor can't be made non-blocking.
    pub fn new(connection: u64, [stdin, stdout, stderr]: [Option<OwnedFd>; 3]) -> std::io::Result<Self> {
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        let outputs = [stdout.map(Output::new).transpose()?, stderr.map(Output::new).transpose()?];
        Ok(Client { connection: Some(connection), input: stdin, outputs })
    }
}

/// The writing end of a client's pipe.
pub struct Output {
    pub pipe: OwnedFd,
    queue: VecDeque<u8>,
    closing: bool,
}

/// What became of an output.
#[derive(PartialEq, Eq)]
pub enum Fate {
    Open,
    /// Its reader is gone, too slow, or has everything it will get.
    Over,
}

impl Output {
    pub fn new(pipe: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Output { pipe, queue: VecDeque::new(), closing: false })
    }

    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn send(&mut self, bytes: &[u8]) -> Fate {
        let mut rest = bytes;
        if self.queue.is_empty() {
            while !rest.is_empty() {
                match rustix::io::write(&self.pipe, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(_) => return Fate::Over,
                }
            }
        }
        if self.queue.len() + rest.len() > QUEUE_BYTES {
            return Fate::Over;
        }
        self.queue.extend(rest);
        Fate::Open
    }

    /// Sends what waits, now that the pipe takes more or has lost its reader.
    pub fn flush(&mut self) -> Fate {
        if self.queue.is_empty() {
            // Nothing waited, so it was the loss of the reader that was polled.
            return Fate::Over;
        }
        while !self.queue.is_empty() {
            match rustix::io::write(&self.pipe, self.queue.as_slices().0) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(Errno::AGAIN) => return Fate::Open,
                Err(Errno::INTR) => {}
                Err(_) => return Fate::Over,
            }
        }
        if self.closing { Fate::Over } else { Fate::Open }
    }

    /// Nothing more will come.
    pub fn close(&mut self) -> Fate {
        self.closing = true;
        if self.queue.is_empty() { Fate::Over } else { Fate::Open }
    }
}
