//! Reading container logs, in either format, from the oldest file kept to the line being written.

use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tug_shim::log::rotated;

use crate::containers::log_config;
use crate::engine::{Engine, Error, Result, watched};
use crate::spec::*;

/// Lines read ahead of a slow reader.
const AHEAD: usize = 256;
const READ_BYTES: usize = 64 * 1024;

impl Engine {
    /// Reads either format. With `follow` the stream ends when the container has and all is read.
    ///
    /// # Errors
    /// When there is no such container or it keeps no log.
    pub fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        let container = self.entry(id)?;
        let log = container.now().spec.log;
        let kept = log_config(&log).max_files;
        if log.format == LogFormat::None {
            return Err(Error::Invalid("configured logging driver does not support reading".into()));
        }
        let (lines, receiver) = mpsc::channel(AHEAD);
        let status = container.status.subscribe();
        tokio::spawn(async move {
            let (format, path) = (log.format, log.path);
            let reader = Reader { format, path, kept, options, status, lines, partial: Vec::new() };
            let lines = reader.lines.clone();
            if let Err(err) = reader.run().await {
                // The other side may have stopped reading, or no file was ever written.
                if err.kind() != io::ErrorKind::BrokenPipe && err.kind() != io::ErrorKind::NotFound {
                    let _ = lines.send(Err(Error::Failed { step: "read log", message: err.to_string() })).await;
                }
            }
        });
        Ok(ReceiverStream::new(receiver).boxed())
    }
}

struct Reader {
    format: LogFormat,
    path: PathBuf,
    /// Most files that there are at once.
    kept: u32,
    options: LogOptions,
    status: watch::Receiver<ContainerStatus>,
    lines: mpsc::Sender<Result<LogLine>>,
    /// Start of a line whose end is not read yet.
    partial: Vec<u8>,
}

/// Whether reading goes on after a line.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl Reader {
    async fn run(mut self) -> io::Result<()> {
        // Watched before it is read, so that nothing is written unseen between the two.
        let changes = if self.options.follow { Some(Changes::of(&self.path)?) } else { None };
        let mut files = self.files(None).await?;
        if let Some(lines) = self.options.tail {
            skip_to_tail(&mut files, lines).await?;
        }
        let mut current = files.pop().ok_or(io::ErrorKind::NotFound)?;
        for mut older in files {
            if self.read(&mut older).await? == Next::Enough {
                return Ok(());
            }
        }
        let Some(changes) = changes else {
            self.read(&mut current).await?;
            return Ok(());
        };
        loop {
            // Looked at before the last read: what the container wrote until then is in the file.
            let over = self.status.borrow_and_update().state == State::Exited;
            if self.read(&mut current).await? == Next::Enough {
                return Ok(());
            }
            let mut newer = self.files(Some(&current)).await?;
            if let Some(newest) = newer.pop() {
                // Between the read and now a file may have been completed, and others filled and put aside after it.
                for file in std::iter::once(&mut current).chain(&mut newer) {
                    if self.read(file).await? == Next::Enough {
                        return Ok(());
                    }
                }
                current = newest;
                continue;
            }
            if over {
                return Ok(());
            }
            tokio::select! {
                changed = changes.wait() => changed?,
                changed = self.status.changed() => {
                    if changed.is_err() {
                        // The container is being removed.
                        self.read(&mut current).await?;
                        return Ok(());
                    }
                }
                () = self.lines.closed() => return Ok(()),
            }
        }
    }

    /// The log's files that were begun after `known`, or all, oldest first, the current one last.
    async fn files(&self, known: Option<&File>) -> io::Result<Vec<File>> {
        let known = match known {
            Some(file) => Some(file.metadata().await?.ino()),
            None => None,
        };
        let (path, kept) = (self.path.clone(), self.kept);
        let files = tokio::task::spawn_blocking(move || open(&path, kept, known)).await.map_err(io::Error::other)??;
        Ok(files.into_iter().map(File::from_std).collect())
    }

    /// Hands out the lines from here to the end of the file.
    async fn read(&mut self, file: &mut File) -> io::Result<Next> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let bytes = file.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(Next::More);
            }
            self.partial.extend_from_slice(&buffer[..bytes]);
            let mut from = 0;
            while let Some(length) = self.partial[from..].iter().position(|&byte| byte == b'\n') {
                let line = parse(self.format, &self.partial[from..from + length]);
                from += length + 1;
                let Some(line) = line else { continue };
                if self.options.since.is_some_and(|since| line.time < since) {
                    continue;
                }
                if self.options.until.is_some_and(|until| line.time > until) {
                    return Ok(Next::Enough);
                }
                self.lines.send(Ok(line)).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            self.partial.drain(..from);
        }
    }
}

/// A log's files that were begun after the one of inode `known`, oldest first; all when it is among them no more.
///
/// A rotation in the meantime gives files other names, always higher ones: looked for from the lowest name up, none is
/// missed, though a name may be free for a moment, and one met twice is where it was met last.
fn open(path: &Path, kept: u32, known: Option<u64>) -> io::Result<Vec<std::fs::File>> {
    let mut found: Vec<(u64, std::fs::File)> = Vec::new();
    for n in 0..kept.max(1) {
        let name = if n == 0 { path.to_owned() } else { rotated(path, n) };
        let file = match std::fs::File::open(name) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
        };
        let inode = file.metadata()?.ino();
        if known == Some(inode) {
            break;
        }
        found.retain(|(met, _)| *met != inode);
        found.push((inode, file));
    }
    Ok(found.into_iter().rev().map(|(_, file)| file).collect())
}

/// Leaves of the files what holds the last so many lines, read backwards.
async fn skip_to_tail(files: &mut Vec<File>, lines: u64) -> io::Result<()> {
    let mut missing = lines;
    let mut buffer = vec![0; READ_BYTES];
    for index in (0..files.len()).rev() {
        let file = &mut files[index];
        let mut end = file.metadata().await?.len();
        if missing == 0 {
            file.seek(SeekFrom::Start(end)).await?;
            files.drain(..index);
            return Ok(());
        }
        while end > 0 {
            let start = end.saturating_sub(READ_BYTES as u64);
            let chunk = &mut buffer[..(end - start) as usize];
            file.seek(SeekFrom::Start(start)).await?;
            file.read_exact(chunk).await?;
            for (offset, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                // The newline before the first line wanted is that of the one which is not.
                if missing == 0 {
                    file.seek(SeekFrom::Start(start + offset as u64 + 1)).await?;
                    files.drain(..index);
                    return Ok(());
                }
                missing -= 1;
            }
            end = start;
        }
        file.seek(SeekFrom::Start(0)).await?;
    }
    Ok(())
}

/// Word of writes to a log and of its replacement: from its directory, for its name may be nobody's for a moment.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    fn of(path: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let changes = Changes(watched(inotify::init(flags)?)?);
        let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
        inotify::add_watch(&changes.0, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::MODIFY)?;
        Ok(changes)
    }

    async fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                Ok(read) => return read.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }
}

#[derive(Deserialize)]
struct JsonLine {
    log: String,
    stream: String,
    time: String,
}

/// One line of a file; `None` for one that is no log line, as a torn write after a power cut is.
fn parse(format: LogFormat, line: &[u8]) -> Option<LogLine> {
    match format {
        LogFormat::JsonFile => {
            let line: JsonLine = serde_json::from_slice(line).ok()?;
            Some(LogLine { time: time(&line.time)?, stream: stream(&line.stream)?, text: Bytes::from(line.log) })
        }
        LogFormat::Cri | LogFormat::None => {
            let mut fields = line.splitn(4, |&byte| byte == b' ');
            let mut word = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
            let (at, name, tags) = (word()?, word()?, word()?);
            let mut text = fields.next().unwrap_or_default().to_vec();
            // `P` is part of a line: its newline comes with the rest.
            if tags.split(':').next() != Some("P") {
                text.push(b'\n');
            }
            Some(LogLine { time: time(at)?, stream: stream(name)?, text: Bytes::from(text) })
        }
    }
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

fn stream(name: &str) -> Option<Stream> {
    match name {
        "stdout" => Some(Stream::Stdout),
        "stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_formats_are_read() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_475_713_029, 669_794_202);
        let cases: [(LogFormat, &[u8], &[u8], Stream); 4] = [
            (LogFormat::Cri, b"2016-10-06T00:17:09.669794202Z stdout F two words", b"two words\n", Stream::Stdout),
            (LogFormat::Cri, b"2016-10-06T00:17:09.669794202Z stderr P half", b"half", Stream::Stderr),
            (LogFormat::Cri, b"2016-10-06T02:17:09.669794202+02:00 stdout F ", b"\n", Stream::Stdout),
            (
                LogFormat::JsonFile,
                br#"{"log":"hi\n","stream":"stderr","time":"2016-10-06T00:17:09.669794202Z"}"#,
                b"hi\n",
                Stream::Stderr,
            ),
        ];
        for (format, line, text, stream) in cases {
            let parsed = parse(format, line).unwrap();
            assert_eq!((&parsed.text[..], parsed.stream, parsed.time), (text, stream, at));
        }
        assert!(parse(LogFormat::Cri, b"torn").is_none());
        assert!(parse(LogFormat::JsonFile, b"{\"log\":").is_none());
    }

    #[tokio::test]
    async fn tail_counts_lines_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(rotated(&path, 2), "1\n2\n").unwrap();
        std::fs::write(rotated(&path, 1), "3\n4\n").unwrap();
        std::fs::write(&path, "5\n6\n").unwrap();
        for (lines, expected) in [(0, ""), (1, "6\n"), (2, "5\n6\n"), (3, "4\n5\n6\n"), (9, "1\n2\n3\n4\n5\n6\n")] {
            let mut files = open(&path, 5, None).unwrap().into_iter().map(File::from_std).collect();
            skip_to_tail(&mut files, lines).await.unwrap();
            let mut text = String::new();
            for file in &mut files {
                file.read_to_string(&mut text).await.unwrap();
            }
            assert_eq!(text, expected, "tail {lines}");
        }
    }

    #[test]
    fn a_rotation_under_way_hides_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let names = |known| {
            let files = open(&path, 5, known).unwrap();
            files.iter().map(|file| io::read_to_string(file).unwrap()).collect::<String>()
        };
        std::fs::write(rotated(&path, 4), "a").unwrap();
        std::fs::write(rotated(&path, 3), "b").unwrap();
        std::fs::write(rotated(&path, 1), "c").unwrap();
        let known = std::fs::metadata(rotated(&path, 3)).unwrap().ino();
        // .2 has become .3, and .1 is not yet .2.
        std::fs::write(&path, "d").unwrap();
        assert_eq!((names(None), names(Some(known))), ("abcd".into(), "cd".into()));
        // It has, and the new file is not made yet.
        std::fs::remove_file(&path).unwrap();
        assert_eq!((names(None), names(Some(known))), ("abc".into(), "c".into()));
        // The last one read is no more.
        std::fs::remove_file(rotated(&path, 3)).unwrap();
        assert_eq!(names(Some(known)), "ac");
    }
}
