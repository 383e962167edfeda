//! A real registry, Debian's docker-registry, filled by skopeo.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tug_engine::Images;

use super::archive::{Image, Member, layer};

/// An image store in `dir`.
pub fn store(dir: &Path) -> Images {
    super::install_crypto();
    Images::open(&super::config(dir, "/tug-test")).expect("a store")
}

/// An archive with an image of one small layer.
pub fn small_archive(dir: &Path) -> PathBuf {
    let path = dir.join("image.tar");
    Image::new("test:1", vec![layer(&[Member::file("a", b"content")])]).write(&path);
    path
}

/// A registry on a port of its own, gone with this value.
pub struct Registry {
    child: Child,
    pub host: String,
    storage: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With more of a configuration file, such as an `auth` section.
    pub fn with(more: &str) -> Self {
        let storage = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let host = format!("127.0.0.1:{port}");
        let config = storage.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{more}",
            storage.path().join("data").display()
        );
        fs::write(&config, text).expect("writing the registry's configuration");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker-registry is installed");
        // It tells nobody when it listens: connecting is the only way to know.
        while TcpStream::connect(&host).is_err() {
            std::thread::yield_now();
        }
        Self { child, host, storage }
    }

    pub fn push(&self, archive: &Path, name: &str, more: &[&str]) {
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .args(more)
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", self.host))
            .status()
            .expect("Debian's skopeo is installed");
        assert!(status.success());
    }

    /// Where it keeps a blob.
    pub fn blob(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.storage.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
