//! Files of a ConfigMap, Secret or projection, replaced all at once (upstream's `AtomicWriter`): a reader sees all of
//! the old or all of the new, by way of `..data`, a link to a directory that is never changed.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use super::payload::Payload;

const LINK: &str = "..data";
const NEW_LINK: &str = "..data_tmp";

/// Makes `target` show exactly `payload`; does nothing when it does so already.
///
/// # Errors
/// For a path that leaves the volume, and when the files can't be written; the old content stays then.
pub fn write(target: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    for path in payload.files.keys() {
        check(path)?;
    }
    let old = fs::read_link(target.join(LINK)).ok();
    if old.is_some() && shows(&target.join(LINK), payload)? {
        return link_names(target, payload);
    }
    let stamp = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let directory = target.join(&stamp);
    make_directory(&directory, group)?;
    for (path, file) in &payload.files {
        let place = directory.join(path);
        let parent = place.parent().unwrap_or(&directory);
        if parent != directory {
            make_directories(&directory, parent, group)?;
        }
        fs::write(&place, &file.content)?;
        chown(&place, file.owner, group)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(file.mode))?;
    }
    let new_link = target.join(NEW_LINK);
    match fs::remove_file(&new_link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&stamp, &new_link)?;
    fs::rename(&new_link, target.join(LINK))?;
    link_names(target, payload)?;
    // Whatever else is dated is an older state, this run's or a crashed one's.
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let dated = name.to_string_lossy().starts_with("..") && entry.file_type()?.is_dir();
        if dated && name.to_string_lossy() != stamp {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The names that users see: links through `..data`; those that are no longer in the payload go.
fn link_names(target: &Path, payload: &Payload) -> io::Result<()> {
    let mut wanted: Vec<&str> = payload.files.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    wanted.dedup();
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && entry.file_type()?.is_symlink() && !wanted.contains(&name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        match symlink(Path::new(LINK).join(name), target.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn make_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(path)?;
    chown(path, None, group)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn make_directories(root: &Path, wanted: &Path, group: Option<u32>) -> io::Result<()> {
    let Ok(relative) = wanted.strip_prefix(root) else { return Ok(()) };
    let mut place = root.to_path_buf();
    for part in relative.components() {
        place.push(part);
        if !place.exists() {
            make_directory(&place, group)?;
        }
    }
    Ok(())
}

/// Whether the directory holds the payload's files and no others.
fn shows(directory: &Path, payload: &Payload) -> io::Result<bool> {
    for (path, file) in &payload.files {
        let place = directory.join(path);
        let same = match fs::read(&place) {
            Ok(content) => content == file.content && fs::metadata(&place)?.permissions().mode() & 0o777 == file.mode,
            Err(_) => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(count(directory)? == payload.files.len())
}

fn count(directory: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

fn check(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.starts_with("..") {
        let message = format!("invalid path {path:?}: must be relative and must not contain '..'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::PayloadFile;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| PayloadFile { content: content.into(), mode: 0o640, owner: None };
        Payload { files: files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect() }
    }

    #[test]
    fn replaces_all_at_once() {
        let dir = std::env::temp_dir().join(format!("tug-atomic-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);

        let first = fs::read_link(dir.join("..data")).unwrap();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join("..data")).unwrap(), first, "the same content changes nothing");

        write(&dir, &payload(&[("a", "new"), ("c", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "new");
        let mut names: Vec<String> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        assert_eq!(names, ["..data", "a", "c"]);
        assert!(!dir.join(first).exists(), "the old state is gone");

        // A crash between the parts leaves a dated directory and a link: the next write cleans both.
        fs::create_dir(dir.join("..2001_01_01_00_00_00.000000000")).unwrap();
        symlink("nowhere", dir.join(NEW_LINK)).unwrap();
        write(&dir, &payload(&[]), None).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "only ..data and its directory");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "a/./../b"] {
            assert!(check(path).is_err(), "{path}");
        }
        for path in ["a", "a/b", "a..b", ".hidden"] {
            assert!(check(path).is_ok(), "{path}");
        }
    }
}
