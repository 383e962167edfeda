//! Unpacks a layer's archive into a directory for overlayfs. Nothing in the archive reaches beyond that directory: every
//! path is resolved by the kernel with the directory as its root (openat2(2), `RESOLVE_IN_ROOT`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fsetxattr, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

/// Longest chain of directories in an archive: deeper ones serve no purpose but to exhaust.
const MOST_COMPONENTS: usize = 512;

/// Longest sparse file: the log of last logins of a user with a large number is one of some hundred GB.
const MOST_SPARSE_BYTES: u64 = 1 << 40;

/// Unpacks `archive` (plain, gzip or zstd) into the existing empty directory `into`. Returns the uncompressed archive's
/// digest, `sha256:…`.
pub fn unpack(archive: File, into: &Path) -> io::Result<String> {
    let mut archive = tar::Archive::new(Hashing { inner: decompress(archive)?, hash: Sha256::new() });
    let root = open_directory(CWD, into)?;
    let mut tree = Tree { root, directory_times: Vec::new() };
    for entry in archive.entries()? {
        let mut entry = entry.map_err(bad_header)?;
        let path = entry.path()?.into_owned();
        tree.add(&mut entry, &path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    tree.finish()?;
    let mut rest = archive.into_inner();
    // The digest covers the padding behind the last entry too.
    io::copy(&mut rest, &mut io::sink())?;
    Ok(format!("sha256:{}", hex(&rest.hash.finalize())))
}

/// In Go's words, which don't repeat what the archive has there.
pub fn bad_header(error: io::Error) -> io::Error {
    let text = error.to_string();
    if error.raw_os_error().is_none() && (text.contains("numeric field") || text.contains("checksum mismatch")) {
        return io::Error::new(io::ErrorKind::InvalidData, "archive/tar: invalid tar header");
    }
    error
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// Told by the first bytes: media types lie more often.
    pub fn of(file: &File) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let mut start = [0; 4];
        let count = file.read_at(&mut start, 0)?;
        Ok(match &start[..count] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::None,
        })
    }
}

pub fn decompress(file: File) -> io::Result<Box<dyn Read + Send>> {
    let packing = Packing::of(&file)?;
    let reader = BufReader::with_capacity(256 << 10, file);
    Ok(match packing {
        Packing::None => Box::new(reader),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
    })
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

struct Tree {
    root: OwnedFd,
    /// Set last: making a directory's entries changes its times.
    directory_times: Vec<(PathBuf, Timestamps)>,
}

impl Tree {
    fn add(&mut self, entry: &mut Entry<impl Read>, path: &Path) -> io::Result<()> {
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else {
            // The root itself, `./`.
            return set_attributes(entry, self.root.as_fd(), Path::new("."), self.root.as_fd());
        };
        let parent = self.directory(parents)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&parent, OsStr::from_bytes(hidden));
        }
        let name = Path::new(name);
        let kind = entry.header().entry_type();
        clear_way(&parent, name, kind)?;
        match kind {
            EntryType::Directory => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Err(rustix::io::Errno::EXIST) => {}
                    other => other?,
                }
                let directory = open_directory(parent.as_fd(), name)?;
                set_attributes(entry, parent.as_fd(), name, directory.as_fd())?;
                self.directory_times.push((parts.iter().collect(), times(entry)));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
                if kind == EntryType::GNUSparse {
                    copy_with_holes(entry, &mut file)?;
                } else {
                    check_room(&file, entry.size())?;
                    io::copy(entry, &mut file)?;
                }
                set_attributes(entry, parent.as_fd(), name, file.as_fd())?;
                utimensat(&parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| malformed("a symbolic link without a target"))?;
                symlinkat(&*target, &parent, name)?;
                let (uid, gid) = owner(entry)?;
                chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                utimensat(&parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| malformed("a hard link without a target"))?.into_owned();
                let target = components(&target)?;
                let (target, parents) = target.split_last().ok_or_else(|| malformed("a hard link to the root"))?;
                let from = self.directory(parents)?;
                linkat(&from, Path::new(target), &parent, name, AtFlags::empty())?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let major = header.device_major()?.unwrap_or(0);
                let minor = header.device_minor()?.unwrap_or(0);
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), makedev(major, minor))?;
                let (uid, gid) = owner(entry)?;
                chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                chmodat(&parent, name, mode(entry)?, AtFlags::empty())?;
                utimensat(&parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // Global PAX headers and the like carry no file.
            _ => {}
        }
        Ok(())
    }

    /// The directory with these components, made where it's missing.
    fn directory(&self, parts: &[&OsStr]) -> io::Result<OwnedFd> {
        let whole: PathBuf = parts.iter().collect();
        match self.resolve(&whole) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let mut current = self.resolve(Path::new("."))?;
        let mut path = PathBuf::new();
        for part in parts {
            path.push(part);
            current = match self.resolve(&path) {
                Err(rustix::io::Errno::NOENT) => {
                    mkdirat(&current, Path::new(part), Mode::from_raw_mode(0o755))?;
                    self.resolve(&path)?
                }
                other => other?,
            };
        }
        Ok(current)
    }

    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn finish(&self) -> io::Result<()> {
        for (path, times) in self.directory_times.iter().rev() {
            match self.resolve(path) {
                // Replaced by a later entry.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
                Ok(directory) => rustix::fs::futimens(&directory, times)?,
            }
        }
        Ok(())
    }
}

/// What can't fit is refused before the disk is full of it.
fn check_room(file: &File, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    if bytes > disk.f_bavail.saturating_mul(disk.f_frsize) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("a file of {bytes} bytes")));
    }
    Ok(())
}

/// Holes of a sparse file stay holes: only what is in it takes room.
fn copy_with_holes(entry: &mut Entry<impl Read>, file: &mut File) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let bytes = entry.header().as_gnu().map_or(Ok(0), |header| header.real_size())?;
    if bytes > MOST_SPARSE_BYTES {
        return Err(malformed("a sparse file that is too large"));
    }
    file.set_len(bytes)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = entry.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if buffer[..count].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(count as i64))?;
        } else {
            file.write_all(&buffer[..count])?;
        }
    }
}

/// A path's names; `.` and a leading `/` are dropped.
fn components(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => return Err(malformed("a path with '..' in it")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if parts.len() > MOST_COMPONENTS {
        return Err(malformed("a path with too many components"));
    }
    Ok(parts)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive holds {what}"))
}

/// What a whiteout entry says, in overlayfs' form (Documentation/filesystems/overlayfs.rst).
fn whiteout(parent: &OwnedFd, hidden: &OsStr) -> io::Result<()> {
    if hidden == ".wh..opq" {
        return Ok(fsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    if hidden.as_bytes().starts_with(b".wh.") {
        // Aufs' own bookkeeping.
        return Ok(());
    }
    clear_way(parent, Path::new(hidden), EntryType::Char)?;
    Ok(mknodat(parent, Path::new(hidden), FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?)
}

/// A later entry of the same name replaces an earlier one; directories stay directories.
fn clear_way(parent: &OwnedFd, name: &Path, kind: EntryType) -> io::Result<()> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (is_directory, kind) {
        (true, EntryType::Directory) => Ok(()),
        (true, _) => remove_tree(parent, name),
        (false, _) => Ok(unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn remove_tree(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // Through the descriptor, so that no path is resolved again.
    fs::remove_dir_all(PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name))
}

fn open_directory(at: BorrowedFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Owner, then mode, then extended attributes: each clears some of the next.
fn set_attributes(entry: &mut Entry<impl Read>, parent: BorrowedFd, name: &Path, file: BorrowedFd) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::fchmod(file, mode(entry)?)?;
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        // An image must not pretend to be overlayfs.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        match fsetxattr(file, OsStr::from_bytes(name), extension.value_bytes(), XattrFlags::empty()) {
            // A label of a security module that this host doesn't run.
            Err(rustix::io::Errno::NOTSUP) => {}
            other => other?,
        }
    }
    Ok(())
}

fn owner(entry: &Entry<impl Read>) -> io::Result<(Uid, Gid)> {
    let number = |n: u64| u32::try_from(n).map_err(|_| malformed("an owner above 32 bits"));
    Ok((Uid::from_raw(number(entry.header().uid()?)?), Gid::from_raw(number(entry.header().gid()?)?)))
}

fn mode(entry: &Entry<impl Read>) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(entry.header().mode()? & 0o7777))
}

fn times(entry: &Entry<impl Read>) -> Timestamps {
    let seconds = entry.header().mtime().unwrap_or(0);
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
