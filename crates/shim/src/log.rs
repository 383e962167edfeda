//! Container logs: lines with a time and a stream, in CRI's or Docker's format, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Longest piece of a line that is written at once; longer lines are cut and marked, as containerd and Docker do.
const PIECE_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `<RFC3339Nano> stdout F line`.
    #[default]
    Cri,
    /// `{"log":"line\n","stream":"stdout","time":"…"}`.
    Json,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Nothing is kept when `None`.
    pub path: Option<PathBuf>,
    pub format: Format,
    /// A file that would grow past this is renamed to `.1`, that to `.2` and so on.
    pub max_bytes: u64,
    /// Files kept in all, the current one included.
    pub max_files: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The current file of a container's log.
pub struct Log {
    config: LogConfig,
    file: Option<File>,
    bytes: u64,
    /// What each stream wrote since its last newline.
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens the file for appending, making its directory where needed.
    ///
    /// # Errors
    /// When the directory or file can't be made.
    pub fn open(config: LogConfig) -> io::Result<Self> {
        let mut log = Log { config, file: None, bytes: 0, pending: Default::default() };
        if let Some(path) = &log.config.path {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            let file = append(path)?;
            log.bytes = file.metadata()?.len();
            log.file = Some(file);
        }
        Ok(log)
    }

    /// Takes output as it was read. Whole lines are written at once; the rest waits for its newline.
    ///
    /// # Errors
    /// When the disk is full, say. The output that could not be written is lost; the container goes on.
    pub fn write(&mut self, stream: Stream, mut output: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let time = rfc3339(SystemTime::now());
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        let mut lines = Vec::with_capacity(output.len() + 64);
        while !output.is_empty() {
            let room = PIECE_BYTES - pending.len();
            let newline = output.iter().take(room + 1).position(|&byte| byte == b'\n');
            match newline {
                Some(at) => {
                    pending.extend_from_slice(&output[..at]);
                    self.format(&mut lines, &time, stream, &pending, true);
                    pending.clear();
                    output = &output[at + 1..];
                }
                None if output.len() < room => {
                    pending.extend_from_slice(output);
                    output = &[];
                }
                None => {
                    pending.extend_from_slice(&output[..room]);
                    self.format(&mut lines, &time, stream, &pending, false);
                    pending.clear();
                    output = &output[room..];
                }
            }
        }
        self.pending[stream as usize] = pending;
        self.append(&lines)
    }

    /// Writes a last line that had no newline.
    ///
    /// # Errors
    /// As [`Log::write`].
    pub fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if pending.is_empty() {
            return Ok(());
        }
        let mut line = Vec::new();
        self.format(&mut line, &rfc3339(SystemTime::now()), stream, &pending, false);
        self.append(&line)
    }

    fn format(&self, out: &mut Vec<u8>, time: &str, stream: Stream, text: &[u8], whole: bool) {
        match self.config.format {
            Format::Cri => {
                let tag = if whole { 'F' } else { 'P' };
                out.extend_from_slice(format!("{time} {} {tag} ", stream.name()).as_bytes());
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            Format::Json => {
                let mut text = String::from_utf8_lossy(text).into_owned();
                if whole {
                    text.push('\n');
                }
                let text = serde_json::Value::String(text);
                let line = format!("{{\"log\":{text},\"stream\":\"{}\",\"time\":\"{time}\"}}\n", stream.name());
                out.extend_from_slice(line.as_bytes());
            }
        }
    }

    /// Writes whole lines, as many into a file as it may hold, but one at least.
    fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let room = usize::try_from(self.config.max_bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
            let ends = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let fitting = if lines.len() <= room { Some(lines.len()) } else { ends(&lines[..room]) };
            let count = match fitting {
                Some(count) => count,
                None if self.bytes > 0 => {
                    self.rotate()?;
                    continue;
                }
                None => lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1),
            };
            let Some(file) = &mut self.file else { return Ok(()) };
            file.write_all(&lines[..count])?;
            self.bytes += count as u64;
            lines = &lines[count..];
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(path) = &self.config.path else { return Ok(()) };
        for older in (1..self.config.max_files.saturating_sub(1)).rev() {
            match fs::rename(rotated(path, older), rotated(path, older + 1)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
        }
        if self.config.max_files > 1 {
            fs::rename(path, rotated(path, 1))?;
        } else {
            fs::remove_file(path)?;
        }
        self.file = Some(append(path)?);
        self.bytes = 0;
        Ok(())
    }
}

/// Name of the n-th older file of a log.
pub fn rotated(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// UTC, nine digits of a second: `2016-10-06T00:17:09.669794202Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Howard Hinnant's days-to-civil: years start in March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn contents(config: &LogConfig, writes: &[(Stream, &[u8])]) -> Vec<String> {
        let mut log = Log::open(config.clone()).unwrap();
        for (stream, output) in writes {
            log.write(*stream, output).unwrap();
        }
        log.finish(Stream::Stdout).unwrap();
        log.finish(Stream::Stderr).unwrap();
        let text = fs::read_to_string(config.path.as_ref().unwrap()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn times_are_rfc3339_in_utc() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (1_475_713_029, 669_794_202, "2016-10-06T00:17:09.669794202Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z"),
        ];
        for (seconds, nanos, expected) in cases {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos)), expected);
        }
    }

    #[test]
    fn lines_wait_for_their_newline_and_long_ones_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            path: Some(dir.path().join("a/0.log")),
            max_bytes: 1 << 20,
            max_files: 2,
            ..Default::default()
        };
        let long = vec![b'x'; PIECE_BYTES + 5];
        let lines = contents(
            &config,
            &[
                (Stream::Stdout, b"one\ntw"),
                (Stream::Stderr, b"oops\n"),
                (Stream::Stdout, b"o\n\n"),
                (Stream::Stdout, &long),
                (Stream::Stdout, b"\nend"),
            ],
        );
        let after_time: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        let piece = format!("stdout P {}", "x".repeat(PIECE_BYTES));
        let expected =
            ["stdout F one", "stderr F oops", "stdout F two", "stdout F ", &piece, "stdout F xxxxx", "stdout P end"];
        assert_eq!(after_time, expected);
    }

    #[test]
    fn a_line_of_exactly_one_piece_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            LogConfig { path: Some(dir.path().join("l")), max_bytes: 1 << 20, max_files: 2, ..Default::default() };
        let mut line = vec![b'x'; PIECE_BYTES];
        line.push(b'\n');
        let lines = contents(&config, &[(Stream::Stdout, &line)]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(" stdout F "));
    }

    #[test]
    fn json_lines_are_what_docker_writes() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            path: Some(dir.path().join("x-json.log")),
            format: Format::Json,
            max_bytes: 1 << 20,
            max_files: 1,
        };
        let lines = contents(&config, &[(Stream::Stdout, b"say \"hi\"\n"), (Stream::Stderr, b"cut")]);
        assert!(lines[0].starts_with(r#"{"log":"say \"hi\"\n","stream":"stdout","time":""#), "{}", lines[0]);
        assert!(lines[1].starts_with(r#"{"log":"cut","stream":"stderr","time":""#), "{}", lines[1]);
    }

    #[test]
    fn old_files_are_renamed_and_the_oldest_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let config = LogConfig { path: Some(path.clone()), max_bytes: 60, max_files: 3, ..Default::default() };
        let mut log = Log::open(config).unwrap();
        for lines in ["1\n", "2\n3\n4\n", "5\n"] {
            log.write(Stream::Stdout, lines.as_bytes()).unwrap();
        }
        let last = |path: &Path| fs::read_to_string(path).unwrap().trim_end().chars().last();
        // A CRI line here is 41 bytes: one a file.
        assert_eq!(last(&path), Some('5'));
        assert_eq!(last(&rotated(&path, 1)), Some('4'));
        assert_eq!(last(&rotated(&path, 2)), Some('3'));
        assert!(!rotated(&path, 3).exists());
    }
}
