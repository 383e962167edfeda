//! What files take of a disk.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// In which `st_blocks` counts, whatever the file system's blocks are.
const BLOCK_BYTES: u64 = 512;

/// Bytes that a directory and all below it take, on its own file system: blocks, so that holes count for nothing, and
/// each file once, however many names it has. What is removed meanwhile counts for nothing either.
///
/// # Errors
/// If there is no such directory, or it can't be read.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    sum(directory, |metadata| metadata.blocks() * BLOCK_BYTES)
}

/// Lengths of all files below a directory, each counted once: what Docker calls the size of a layer.
///
/// # Errors
/// As [`disk_bytes`].
pub fn file_bytes(directory: &Path) -> io::Result<u64> {
    sum(directory, |metadata| if metadata.is_dir() { 0 } else { metadata.len() })
}

fn sum(directory: &Path, measure: impl Fn(&Metadata) -> u64) -> io::Result<u64> {
    let top = fs::symlink_metadata(directory)?;
    let mut bytes = measure(&top);
    let mut seen = HashSet::new();
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = directories.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != directory => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != top.dev()
                || (metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()))
            {
                continue;
            }
            bytes += measure(&metadata);
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let of = |path: &Path| disk_bytes(path).expect("readable");
        let empty = of(dir.path());
        fs::create_dir(dir.path().join("sub")).expect("made");
        let before = of(dir.path());
        fs::write(dir.path().join("sub/a"), vec![1; 1 << 20]).expect("written");
        fs::hard_link(dir.path().join("sub/a"), dir.path().join("b")).expect("linked");
        std::os::unix::fs::symlink("/", dir.path().join("root")).expect("linked");
        let hole = fs::File::create(dir.path().join("hole")).expect("made");
        hole.set_len(1 << 30).expect("stretched");
        let taken = of(dir.path()) - before;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&taken), "{empty} {before} {taken}");
        assert!(disk_bytes(&dir.path().join("gone")).is_err());
        // The file once, the link's target, the hole in full.
        assert_eq!(file_bytes(dir.path()).expect("readable"), (1 << 20) + 1 + (1 << 30));
    }
}
