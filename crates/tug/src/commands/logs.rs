//! `tug logs`: a machine's log, the older part first; `-f` follows it from file to file until the cluster is deleted.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tug_machine::Paths;

use crate::cli::LogsArgs;
use crate::commands::existing;
use crate::preflight;

pub fn run(args: LogsArgs) -> Result<ExitCode> {
    preflight::require_root("logs")?;
    let paths = existing(&args.cluster)?.paths();
    // Before anything is read: no change is missed.
    let changes = Inotify::init(InitFlags::empty())?;
    changes
        .add_watch(&paths.state, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE)?;
    let mut file = first(&paths).with_context(|| format!("opening {}", paths.log().display()))?;
    let mut out = io::stdout().lock();
    loop {
        io::copy(&mut file, &mut out)?;
        out.flush()?;
        if let Some(next) = next(&paths, &file)? {
            // Complete by now, which it need not have been above.
            io::copy(&mut file, &mut out)?;
            file = next;
            continue;
        }
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        if changes.read_events()?.iter().any(|event| is_deletion(event, &paths.log())) {
            io::copy(&mut file, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        // Truncated by a person: begin again.
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

fn first(paths: &Paths) -> io::Result<File> {
    let (log, older) = (File::open(paths.log())?, open(&paths.older_log())?);
    match older {
        Some(older) if !is_same(&older, &log)? => Ok(older),
        _ => Ok(log),
    }
}

/// What was begun after `file`, the oldest that is still there. None when `file` is the newest.
fn next(paths: &Paths, file: &File) -> io::Result<Option<File>> {
    // In this order: what is the log now may be the older one a moment later.
    let Some(log) = open(&paths.log())? else { return Ok(None) };
    if is_same(&log, file)? {
        return Ok(None);
    }
    match open(&paths.older_log())? {
        Some(older) if !is_same(&older, file)? => Ok(Some(older)),
        _ => Ok(Some(log)),
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let inode = |metadata: Metadata| (metadata.dev(), metadata.ino());
    Ok(inode(one.metadata()?) == inode(other.metadata()?))
}

/// Whether the log went, or all that was kept of the machine. A rotation takes nobody's name away.
fn is_deletion(event: &InotifyEvent, log: &Path) -> bool {
    let is_log = event.name.as_deref() == log.file_name();
    event.mask.contains(AddWatchFlags::IN_IGNORED) || event.mask.contains(AddWatchFlags::IN_DELETE) && is_log
}
