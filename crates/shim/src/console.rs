//! Where the OCI library sends a new terminal's master: a socket in the sandbox's run directory, gone once it has come.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::protocol;

pub struct Console {
    listener: UnixListener,
    pub path: PathBuf,
}

impl Console {
    /// Listens at `dir/name`, a path that may be longer than a socket's address.
    pub fn listen(dir: &Path, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir_fd = rustix::fs::open(dir, flags, Mode::empty())?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir_fd.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        Ok(Console { listener, path: dir.join(name) })
    }

    /// The master, not blocking, once the program that has the terminal runs.
    pub fn take(self) -> io::Result<OwnedFd> {
        let (connection, _) = self.listener.accept()?;
        let master = protocol::receive_console(&connection)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Left behind, it goes with the sandbox's directory.
        drop(fs::remove_file(&self.path));
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
