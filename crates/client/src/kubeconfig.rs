//! Puts a cluster into the user's kubeconfig, and takes it out again, by kubectl's rules
//! (`k8s.io/client-go/tools/clientcmd`). Whatever else the file holds stays as it is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_norway::{Mapping, Value};

/// A cluster, its admin, and the context of both, all under one name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// `https://127.0.0.1:6443`.
    pub server: String,
    pub ca_pem: String,
    pub client_cert_pem: String,
    pub client_key_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a kubeconfig: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("{} is there: another program is changing the file beside it, or has crashed and left it", .0.display())]
    Locked(PathBuf),
}

/// How long another program may hold a file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The files that kubectl reads: those of `$KUBECONFIG` (the variable's text), else `~/.kube/config`.
pub fn locate(variable: Option<&str>, home: &Path) -> Vec<PathBuf> {
    let named: Vec<PathBuf> =
        std::env::split_paths(variable.unwrap_or_default()).filter(|path| !path.as_os_str().is_empty()).collect();
    if named.is_empty() { vec![home.join(".kube/config")] } else { named }
}

/// Writes the entry and makes its context current. Returns the file that it went to.
///
/// An entry that is in one of the files is changed there; a new one goes to the first file that exists, else to the last
/// that is named. `owner` is given to a file or directory that had to be made.
///
/// # Errors
/// If a file can't be read or written, or isn't a kubeconfig. Nothing is written then.
pub fn merge(paths: &[PathBuf], entry: &Entry, owner: Option<(u32, u32)>) -> Result<PathBuf, Error> {
    let _locks = lock_all(paths)?;
    let mut files = read_all(paths)?;
    let holding = files.iter().position(|file| file.names("contexts").any(|name| name == entry.name));
    let existing = files.iter().position(|file| file.existed);
    let target = holding.or(existing).unwrap_or(files.len() - 1);
    let file = &mut files[target];
    file.put(
        "clusters",
        "cluster",
        &entry.name,
        [("certificate-authority-data", STANDARD.encode(&entry.ca_pem)), ("server", entry.server.clone())],
    );
    file.put(
        "users",
        "user",
        &entry.name,
        [
            ("client-certificate-data", STANDARD.encode(&entry.client_cert_pem)),
            ("client-key-data", STANDARD.encode(&entry.client_key_pem)),
        ],
    );
    file.put("contexts", "context", &entry.name, [("cluster", entry.name.clone()), ("user", entry.name.clone())]);
    // Of several files the first that sets the current context decides: none before this one can.
    let deciding = existing.unwrap_or(target);
    files[deciding].document.insert("current-context".into(), entry.name.clone().into());
    for index in [Some(target), (deciding != target).then_some(deciding)].into_iter().flatten() {
        files[index].write(owner)?;
    }
    Ok(files[target].path.clone())
}

/// Takes the cluster, user and context `name` out of whichever files hold them. A current context of that name is unset.
///
/// # Errors
/// If a file can't be read or written, or isn't a kubeconfig.
pub fn remove(paths: &[PathBuf], name: &str) -> Result<(), Error> {
    let _locks = lock_all(paths)?;
    for mut file in read_all(paths)?.into_iter().filter(|file| file.existed) {
        let before = file.document.clone();
        for section in ["clusters", "users", "contexts"] {
            if let Some(Value::Sequence(entries)) = file.document.get_mut(section) {
                entries.retain(|entry| name_of(entry) != Some(name));
            }
        }
        if file.current() == Some(name) {
            file.document.insert("current-context".into(), "".into());
        }
        if file.document != before {
            file.write(None)?;
        }
    }
    Ok(())
}

/// kubectl's lock: a file beside the locked one, there as long as that is being changed.
struct Lock(PathBuf);

fn lock_all(paths: &[PathBuf]) -> Result<Vec<Lock>, Error> {
    paths.iter().filter_map(|path| lock(path).transpose()).collect()
}

/// `None` where there is no directory yet.
fn lock(path: &Path) -> Result<Option<Lock>, Error> {
    let lock = beside(path, ".lock");
    let given_up = Instant::now() + PATIENCE;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
            Ok(_) => return Ok(Some(Lock(lock))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::File { path: lock, source: error });
            }
            Err(_) if Instant::now() > given_up => return Err(Error::Locked(lock)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it can't be removed, the next one to come says so.
        let _ = fs::remove_file(&self.0);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

struct File {
    path: PathBuf,
    existed: bool,
    document: Mapping,
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, Error> {
    paths.iter().map(|path| File::read(path)).collect()
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("name")?.as_str()
}

impl File {
    fn read(path: &Path) -> Result<Self, Error> {
        let (existed, text) = match fs::read_to_string(path) {
            Ok(text) => (true, text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (false, String::new()),
            Err(source) => return Err(Error::File { path: path.into(), source }),
        };
        let malformed = |message: String| Error::Malformed { path: path.into(), message };
        let document = match serde_norway::from_str(&text).map_err(|error| malformed(error.to_string()))? {
            Value::Mapping(mapping) => mapping,
            Value::Null => Mapping::new(),
            _ => return Err(malformed("its top is not a mapping".into())),
        };
        Ok(Self { path: path.into(), existed, document })
    }

    fn current(&self) -> Option<&str> {
        self.document.get("current-context")?.as_str().filter(|name| !name.is_empty())
    }

    fn names(&self, section: &str) -> impl Iterator<Item = &str> {
        self.document.get(section).and_then(Value::as_sequence).into_iter().flatten().filter_map(name_of)
    }

    fn put<const N: usize>(&mut self, section: &str, key: &str, name: &str, fields: [(&str, String); N]) {
        for (field, value) in [("apiVersion", "v1"), ("kind", "Config")] {
            self.document.entry(field.into()).or_insert_with(|| value.into());
        }
        let inner: Mapping = fields.into_iter().map(|(field, value)| (field.into(), value.into())).collect();
        let entry: Mapping = [(key.into(), inner.into()), ("name".into(), name.into())].into_iter().collect();
        let entries = self.document.entry(section.into()).or_insert_with(|| Value::Sequence(Vec::new()));
        if !entries.is_sequence() {
            *entries = Value::Sequence(Vec::new());
        }
        let entries = entries.as_sequence_mut().expect("made one above");
        match entries.iter_mut().find(|entry| name_of(entry) == Some(name)) {
            Some(known) => *known = entry.into(),
            None => entries.push(entry.into()),
        }
    }

    /// Into a new file, renamed over the old one: a reader sees one or the other whole.
    fn write(&self, owner: Option<(u32, u32)>) -> Result<(), Error> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let text = serde_norway::to_string(&self.document)
            .map_err(|error| Error::Malformed { path: self.path.clone(), message: error.to_string() })?;
        // A link to the file stays a link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory).map_err(failed)?;
            give(directory, owner).map_err(failed)?;
        }
        let kept = fs::metadata(&path).ok().map(|metadata| (metadata.uid(), metadata.gid()));
        let partial = beside(&path, ".partial");
        // One that a crash has left. Never written through: in another user's directory it might be a link.
        if let Err(error) = fs::remove_file(&partial)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            if let Some((uid, gid)) = kept.or(owner) {
                fchown(&file, Some(uid), Some(gid))?;
            }
            fs::rename(&partial, &path)
        };
        write().map_err(failed)
    }
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn entry(name: &str, port: u16) -> Entry {
        Entry {
            name: name.into(),
            server: format!("https://127.0.0.1:{port}"),
            ca_pem: "ca".into(),
            client_cert_pem: "cert".into(),
            client_key_pem: "key".into(),
        }
    }

    fn read(path: &Path) -> Value {
        serde_norway::from_str(&fs::read_to_string(path).expect("the file")).expect("YAML")
    }

    #[test]
    fn the_variable_names_files_else_home_has_one() {
        let home = Path::new("/home/u");
        assert_eq!(locate(None, home), [PathBuf::from("/home/u/.kube/config")]);
        assert_eq!(locate(Some(""), home), [PathBuf::from("/home/u/.kube/config")]);
        assert_eq!(locate(Some("/a::/b"), home), [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn what_else_is_in_the_file_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config");
        let before = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\nclusters:\n- name: other\n  cluster: {server: https://x}\ncurrent-context: other\n";
        fs::write(&path, before).expect("writing");
        merge(slice::from_ref(&path), &entry("tug", 6443), None).expect("merging");
        merge(slice::from_ref(&path), &entry("tug", 7000), None).expect("merging again");
        let merged = read(&path);
        assert_eq!(merged["clusters"].as_sequence().map(Vec::len), Some(2));
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:7000");
        assert_eq!(merged["current-context"], "tug");
        assert_eq!(merged["preferences"]["colors"], true);

        remove(slice::from_ref(&path), "tug").expect("removing");
        let removed = read(&path);
        assert_eq!(removed["clusters"].as_sequence().map(Vec::len), Some(1));
        assert_eq!(removed["current-context"], "");
    }

    #[test]
    fn a_new_entry_goes_where_kubectl_puts_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = ["none", "first", "second"].map(|name| directory.path().join(name));
        assert_eq!(merge(&paths, &entry("a", 1), None).expect("no file yet"), paths[2]);
        fs::write(&paths[1], "current-context: x\n").expect("writing");
        assert_eq!(merge(&paths, &entry("a", 2), None).expect("it is known"), paths[2]);
        assert_eq!(merge(&paths, &entry("b", 3), None).expect("a new one"), paths[1]);
        assert_eq!(read(&paths[1])["current-context"], "b");
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 2, "no lock or partial file is left");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config");
        fs::write(&path, "- a\n- list\n").expect("writing");
        merge(slice::from_ref(&path), &entry("a", 1), None).expect_err("not a mapping");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "- a\n- list\n");
    }
}
