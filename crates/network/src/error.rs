//! What can go wrong: the step that failed and the kernel's reason.

use std::io;

use ipnet::Ipv4Net;

use crate::netlink::Failure;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{step}: {source}")]
    Netlink {
        step: String,
        #[source]
        source: Failure,
    },
    #[error("{step}: {source}")]
    Io {
        step: String,
        #[source]
        source: io::Error,
    },
    #[error("no address is left in {range}: each of its {leased} addresses has a pod")]
    RangeExhausted { range: Ipv4Net, leased: usize },
    #[error("no link is named {0}")]
    NoSuchLink(String),
    #[error("the thread for a network namespace panicked")]
    ThreadPanicked,
}

impl Error {
    /// The kernel's error number, if that is where the error came from.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } => Some(source.errno),
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Says at which step an error arose.
pub(crate) trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Step<T> for std::result::Result<T, Failure> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Netlink { step: step(), source })
    }
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { step: step(), source })
    }
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(io::Error::from).step(step)
    }
}
