//! hostPath: a path of the node, checked against the type that the pod names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// The path, made where the type says so.
pub fn prepare(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let failed = |what: &str| format!("hostPath type check failed: {} {what}", path.display());
    let kind = fs::metadata(&path).ok().map(|meta| meta.file_type());
    let is = |test: fn(&fs::FileType) -> bool| kind.as_ref().is_some_and(test);
    match source.type_.as_deref().unwrap_or("") {
        "" if kind.is_some() => {}
        // Docker and containerd make a directory of what isn't there.
        "" => make_directory(&path)?,
        "DirectoryOrCreate" if kind.is_none() => make_directory(&path)?,
        "DirectoryOrCreate" | "Directory" if !is(fs::FileType::is_dir) => return Err(failed("is not a directory")),
        "FileOrCreate" if kind.is_none() => make_file(&path)?,
        "FileOrCreate" | "File" if !is(fs::FileType::is_file) => return Err(failed("is not a file")),
        "Socket" if !is(FileTypeExt::is_socket) => return Err(failed("is not a socket file")),
        "CharDevice" if !is(FileTypeExt::is_char_device) => return Err(failed("is not a character device")),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => return Err(failed("is not a block device")),
        "DirectoryOrCreate" | "Directory" | "FileOrCreate" | "File" | "Socket" | "CharDevice" | "BlockDevice" => {}
        other => return Err(format!("{other} is an invalid volume type")),
    }
    Ok(path)
}

fn make_directory(path: &Path) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn make_file(path: &Path) -> Result<(), String> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = std::env::temp_dir().join(format!("tug-hostpath-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), b"").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        let cases = [
            ("", "", true),
            ("Directory", "", true),
            ("Directory", "file", false),
            ("Directory", "missing", false),
            ("File", "file", true),
            ("File", "", false),
            ("Socket", "socket", true),
            ("Socket", "file", false),
            ("CharDevice", "file", false),
            ("DirectoryOrCreate", "made/deep", true),
            ("FileOrCreate", "made/file", true),
            ("FileOrCreate", "made", false),
            ("Nonsense", "file", false),
        ];
        for (kind, name, expected) in cases {
            let path = dir.join(name).to_string_lossy().into_owned();
            let source = HostPathVolumeSource { path, type_: Some(kind.to_owned()) };
            assert_eq!(prepare(&source).is_ok(), expected, "{kind} {name}");
        }
        assert!(dir.join("made/file").is_file());
        fs::remove_dir_all(&dir).unwrap();
    }
}
