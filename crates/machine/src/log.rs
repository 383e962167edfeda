//! A machine's log: what its processes print goes into a pipe that PID 1 drains, so that it alone writes the log and can
//! rotate it while they run. The pipe lives as long as they do.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat};

use crate::record::{LOG, OLDER_LOG};
use crate::{During, Result};

/// A log of this size becomes the older one, and what that was is gone.
const MOST_BYTES: u64 = 16 << 20;
const READ_BYTES: usize = 16 << 10;

/// What the processes of a machine print, on its way to the log.
pub(crate) struct Output {
    log: Log,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Output {
    /// Of the machine whose state directory this is, as the host sees it.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let log = Log::open(state, MOST_BYTES).during("opening the machine's log")?;
        let (reader, writer) = io::pipe().during("making a pipe to the machine's log")?;
        Ok(Self { log: Log { is_own_output: true, ..log }, reader, writer })
    }

    /// A child's standard output, or error.
    pub(crate) fn of_child(&self) -> Result<Stdio> {
        Ok(self.writer.try_clone().during("giving a child its output")?.into())
    }

    /// Whether `fd` can be read before `most` is over. All waiting is done here, so that nobody waits long for room in the
    /// pipe.
    pub(crate) fn take_until(&mut self, fd: BorrowedFd, most: Option<Duration>) -> Result<bool> {
        let deadline = most.map(|most| Instant::now() + most);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = match left {
                // Rounded up, so that the time is over when poll says so.
                Some(left) => PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX),
                None => PollTimeout::NONE,
            };
            let mut watched = [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) | Err(Errno::EINTR) => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(error).during("waiting"),
            }
            let [is_ready, is_printed] = watched.map(|watched| watched.any().unwrap_or(false));
            if is_printed {
                self.take()?;
            }
            if is_ready || left == Some(Duration::ZERO) {
                return Ok(is_ready);
            }
        }
    }

    /// What has been printed until now, and not what is printed meanwhile.
    pub(crate) fn take_the_rest(&mut self) -> Result<()> {
        let mut bytes = rustix::io::ioctl_fionread(&self.reader).during("looking what is printed")?;
        while bytes > 0 {
            bytes = bytes.saturating_sub(self.take()? as u64);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<usize> {
        let mut output = [0; READ_BYTES];
        let length = self.reader.read(&mut output).during("reading what is printed")?;
        self.log.write(&output[..length]);
        Ok(length)
    }
}

/// The log's files: the current one and an older one.
struct Log {
    /// Open, for the machine's own files come to lie over it.
    directory: File,
    file: File,
    most_bytes: u64,
    /// Whether it is also what this very process prints to.
    is_own_output: bool,
    lost: Option<Lost>,
}

/// What could not be written, and why.
struct Lost {
    bytes: usize,
    error: io::Error,
}

impl Log {
    fn open(directory: &Path, most_bytes: u64) -> io::Result<Self> {
        let directory = File::open(directory)?;
        let file = append(&directory, LOG, OFlags::empty())?;
        Ok(Self { directory, file, most_bytes, is_own_output: false, lost: None })
    }

    /// What can't be written is lost, on a full disk say: the machine goes on. The log tells of it once there is room.
    fn write(&mut self, output: &[u8]) {
        let lost = self.lost.take();
        let told = match &lost {
            Some(Lost { bytes, error }) => format!("tug-init: {bytes} bytes are missing from this log: {error}\n"),
            None => String::new(),
        };
        if let Err(error) = self.append(&[told.as_bytes(), output].concat()) {
            let bytes = lost.map_or(0, |lost| lost.bytes) + output.len();
            self.lost = Some(Lost { bytes, error });
        }
    }

    fn append(&mut self, output: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() >= self.most_bytes {
            self.rotate()?;
        }
        self.file.write_all(output)
    }

    /// There is a log at every moment, and nothing is written any more to one that has lost its name.
    fn rotate(&mut self) -> io::Result<()> {
        const NEXT: &str = "machine.log.next";
        let next = append(&self.directory, NEXT, OFlags::TRUNC)?;
        let here = self.directory.as_fd();
        unless_missing(unlinkat(here, OLDER_LOG, AtFlags::empty()))?;
        unless_missing(linkat(here, LOG, here, OLDER_LOG, AtFlags::empty()))?;
        renameat(here, NEXT, here, LOG)?;
        self.file = next;
        if self.is_own_output {
            rustix::stdio::dup2_stdout(&self.file)?;
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

fn append(directory: &File, name: &str, more: OFlags) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | more;
    Ok(File::from(openat(directory, name, flags, Mode::from_raw_mode(0o600))?))
}

fn unless_missing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn text(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap_or_default()
    }

    #[test]
    fn one_older_log_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path(), 10).unwrap();
        let cases = [
            ("one\n", "one\n", ""),
            ("two three\n", "one\ntwo three\n", ""),
            ("four\n", "four\n", "one\ntwo three\n"),
            ("five six\n", "four\nfive six\n", "one\ntwo three\n"),
            ("seven\n", "seven\n", "four\nfive six\n"),
        ];
        for (line, current, older) in cases {
            log.write(line.as_bytes());
            let files = [LOG, OLDER_LOG].map(|name| text(directory.path(), name));
            assert_eq!(files, [current, older], "{line}");
        }
        // Of an earlier run of the machine, too.
        Log::open(directory.path(), 5).unwrap().write(b"eight\n");
        assert_eq!([LOG, OLDER_LOG].map(|name| text(directory.path(), name)), ["eight\n", "seven\n"]);
    }

    #[test]
    fn a_log_that_was_removed_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path(), 3).unwrap();
        log.write(b"one\n");
        fs::remove_file(directory.path().join(LOG)).unwrap();
        log.write(b"two\n");
        assert_eq!(text(directory.path(), LOG), "two\n");
    }

    #[test]
    fn what_is_lost_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path(), 1 << 20).unwrap();
        let file = std::mem::replace(&mut log.file, fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(b"one\n");
        log.write(b"three\n");
        log.file = file;
        log.write(b"four\n");
        let expected = "tug-init: 10 bytes are missing from this log: No space left on device (os error 28)\nfour\n";
        assert_eq!(text(directory.path(), LOG), expected);
    }

    #[test]
    fn output_is_taken_while_something_else_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::open(directory.path()).unwrap();
        output.log.is_own_output = false;
        let (told, mut tell) = io::pipe().unwrap();
        let mut printer = output.writer.try_clone().unwrap();
        // More than the pipe holds: it could not be printed if nobody read.
        let printed = "a line of what a server prints\n".repeat(10_000);
        let printing = std::thread::spawn({
            let printed = printed.clone();
            move || {
                printer.write_all(printed.as_bytes()).unwrap();
                tell.write_all(b"done").unwrap();
            }
        });
        assert!(output.take_until(told.as_fd(), None).unwrap());
        printing.join().unwrap();
        output.take_the_rest().unwrap();
        assert_eq!(text(directory.path(), LOG), printed);
    }

    #[test]
    fn waiting_ends_in_time_whatever_is_printed() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::open(directory.path()).unwrap();
        output.log.is_own_output = false;
        let (never, _open) = io::pipe().unwrap();
        let mut flood = std::process::Command::new("yes").stdout(output.of_child().unwrap()).spawn().unwrap();
        // The flood has begun: this waits for it.
        output.take().unwrap();
        assert!(!output.take_until(never.as_fd(), Some(Duration::from_millis(50))).unwrap());
        output.take_the_rest().unwrap();
        flood.kill().unwrap();
        flood.wait().unwrap();
    }
}
