//! What the engine's tests share: a node of their own with a real shim and a small image, and images made on the spot.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod archive;
pub mod registry;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tug_engine::*;

use archive::{Image, Member};

/// Longest that anything here may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An engine in directories and control groups of its own. What a failed test leaves is killed and removed.
pub struct Node {
    pub engine: Arc<Engine>,
    pub config: Config,
    dir: tempfile::TempDir,
}

impl Node {
    pub async fn new() -> Self {
        Self::with_program(|_| shim()).await
    }

    /// `program` gets a directory of its own.
    pub async fn with_program(program: impl FnOnce(&Path) -> PathBuf) -> Self {
        install_crypto();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("tug-engine-").tempdir().expect("a temporary directory");
        let name = format!("/tug-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = Config { program: program(dir.path()), ..config(dir.path(), &name) };
        let engine = Engine::open(config.clone()).await.expect("an engine on empty directories");
        Node { engine, config, dir }
    }

    /// With the image `busybox:latest` loaded.
    pub async fn with_busybox() -> Self {
        let node = Self::new().await;
        node.load(&Image::busybox()).await;
        node
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn load(&self, image: &Image) {
        let archive = self.path().join("image.tar");
        image.write(&archive);
        self.engine.images().load(&archive).await.expect("loading an image");
    }

    pub fn image(&self, name: &str) -> String {
        self.engine.images().resolve(name).expect(name).id
    }

    /// A sandbox as a pod or a lone container has it.
    pub async fn sandbox(&self, id: &str) -> SandboxStatus {
        self.engine.create_sandbox(sandbox(id)).await.expect("a sandbox")
    }

    /// A container of the busybox image in the sandbox `id`, which bears the same name; not yet started.
    pub fn spec(&self, id: &str, command: &[&str]) -> ContainerSpec {
        self.spec_of(id, &self.image("busybox"), command)
    }

    /// As [`Node::spec`] of another image.
    pub fn spec_of(&self, id: &str, image: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            sandbox: id.into(),
            image: image.into(),
            args: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            log: Log { path: self.path().join("logs").join(id).join("0.log"), ..Log::default() },
            ..ContainerSpec::default()
        }
    }

    /// The same container by another name, in a sandbox and with a log of its own.
    pub fn named(&self, id: &str, spec: ContainerSpec) -> ContainerSpec {
        let own = self.spec(id, &[]);
        ContainerSpec { id: own.id, sandbox: own.sandbox, log: own.log, ..spec }
    }

    /// Makes a container's sandbox where it lacks one, makes the container and starts it.
    pub async fn start(&self, spec: ContainerSpec) -> Result<()> {
        if !self.engine.sandboxes().iter().any(|sandbox| sandbox.id == spec.sandbox) {
            self.sandbox(&spec.sandbox).await;
        }
        let id = spec.id.clone();
        self.engine.create_container(spec).await?;
        self.engine.start_container(&id).await
    }

    /// Runs a container to its end; its exit code and what it wrote.
    pub async fn run(&self, spec: ContainerSpec) -> (i32, String) {
        let id = spec.id.clone();
        self.start(spec).await.expect("a container starts");
        let status = self.ended(&id).await;
        (status.exit_code.expect("an exit code"), self.output(&id).await)
    }

    /// As [`Node::run`] for a shell's command line, which must succeed.
    pub async fn shell(&self, id: &str, line: &str) -> String {
        let (code, output) = self.run(self.spec(id, &["sh", "-c", line])).await;
        assert_eq!(code, 0, "{line}: {output}");
        output
    }

    /// Waits for a container's end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        self.until(id, |status| status.state == State::Exited).await
    }

    pub async fn until(&self, id: &str, wanted: impl Fn(&ContainerStatus) -> bool) -> ContainerStatus {
        let mut events = self.engine.events();
        let wait = async {
            loop {
                let status = self.engine.container(id).expect("the container is known");
                if wanted(&status) {
                    return status;
                }
                // Lagging is as good as news: the state is looked at again.
                let _news = events.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the container gets there")
    }

    /// Waits until a container has written a line.
    pub async fn said(&self, id: &str, line: &str) {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = self.engine.logs(id, options).expect("a log");
        let wait = async {
            while let Some(said) = lines.next().await {
                if String::from_utf8_lossy(&said.expect("a line").text).trim_end() == line {
                    return;
                }
            }
            panic!("{id} ended without saying {line}");
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the container says it");
    }

    /// All lines of a container's log.
    pub async fn output(&self, id: &str) -> String {
        text(self.engine.logs(id, LogOptions::default()).expect("a log")).await
    }

    /// Runs a command in a container; its exit code and what it wrote to both streams.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Result<(i32, String)> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let session = self.engine.exec(id, ExecSpec { command, ..ExecSpec::default() }).await?;
        let read = async {
            let (out, err) = tokio::join!(read_all(session.stdout), read_all(session.stderr));
            let code = session.exit.await.expect("an exit code");
            (code, out + &err)
        };
        Ok(tokio::time::timeout(PATIENCE, read).await.expect("the command ends"))
    }

    /// Drops the engine and opens another on the same directories, as a restart does.
    pub async fn restart(mut self) -> Self {
        let engine = Engine::open(self.config.clone()).await.expect("the engine opens again");
        self.engine = engine;
        self
    }

    /// What a power cut does to a node whose engine is not running.
    pub fn lose_power(&self) {
        self.end_all();
        fs::remove_dir_all(&self.config.run_dir).expect("the run directory is in memory");
    }

    /// Removes all sandboxes and looks that nothing of them is left.
    pub async fn finish(self) {
        for sandbox in self.engine.sandboxes() {
            self.engine.remove_sandbox(&sandbox.id).await.expect("removing a sandbox");
        }
        assert_eq!(self.left_behind(), Vec::<String>::new());
    }

    /// Processes of shims, those that they fork for a moment among them.
    pub fn shims(&self) -> Vec<u32> {
        tug_shim::cgroup::processes(&format!("{}/shims", self.config.cgroup_parent))
    }

    /// Mounts, control groups, directories and processes of sandboxes and containers.
    pub fn left_behind(&self) -> Vec<String> {
        let mut left: Vec<String> = mounts_below(self.path()).iter().map(|path| path.display().to_string()).collect();
        for directory in tug_shim::cgroup::directories(&self.config.cgroup_parent) {
            left.extend(cgroups_below(&directory).into_iter().map(shown));
        }
        left.extend(self.shims().iter().map(|pid| format!("shim {pid}")));
        for directory in ["data/containers", "data/sandboxes", "run/sandboxes", "run/ns"] {
            left.extend(entries(&self.path().join(directory)).into_iter().map(shown));
        }
        left
    }

    /// Kills all that runs and unmounts all that is mounted.
    fn end_all(&self) {
        tug_shim::cgroup::kill(&self.config.cgroup_parent);
        let mut mounts = mounts_below(self.path());
        mounts.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
        for mount in mounts {
            // A mount that stays is seen when the directory can't be removed.
            let _gone = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while tug_shim::cgroup::remove(&self.config.cgroup_parent).is_err() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_all();
    }
}

pub fn config(dir: &Path, cgroup: &str) -> Config {
    Config {
        data_dir: dir.join("data"),
        run_dir: dir.join("run"),
        cgroup_parent: cgroup.to_owned(),
        mirrors: Default::default(),
        dial: None,
        names: None,
        program: shim(),
    }
}

pub fn sandbox(id: &str) -> SandboxSpec {
    SandboxSpec { id: id.into(), hostname: id.into(), ..SandboxSpec::default() }
}

/// The shim's program: `$TUG_SHIM`, or beside the tests' in the target directory, built first where Cargo is there to do it.
pub fn shim() -> PathBuf {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        if let Some(given) = std::env::var_os("TUG_SHIM") {
            return given.into();
        }
        let tests = std::env::current_exe().expect("this program has a path");
        let directory = tests.ancestors().nth(2).expect("it is in target/debug/deps");
        if let Some(cargo) = option_env!("CARGO").filter(|cargo| Path::new(cargo).exists()) {
            let built = Command::new(cargo).args(["build", "--quiet", "--package", "tug-shim"]).status();
            assert!(built.expect("cargo runs").success(), "the shim builds");
        }
        directory.join("tug-shim")
    };
    SHIM.get_or_init(find).clone()
}

pub fn install_crypto() {
    // Another test of this process may have been first.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

pub async fn text(lines: impl futures::Stream<Item = Result<LogLine>> + Unpin) -> String {
    let collect = lines.map(|line| line.expect("a line").text).collect::<Vec<_>>();
    let lines = tokio::time::timeout(PATIENCE, collect).await.expect("the log ends");
    String::from_utf8_lossy(&lines.concat()).into_owned()
}

pub async fn read_all(stream: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await.expect("reading a stream");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Control groups of pods and containers: those of shims and of classes of pods stay.
fn cgroups_below(directory: &Path) -> Vec<PathBuf> {
    let own = entries(directory).into_iter().filter(|path| path.is_dir());
    own.flat_map(|path| match path.file_name().and_then(|name| name.to_str()) {
        Some("shims") => Vec::new(),
        Some("kubepods" | "burstable" | "besteffort") => cgroups_below(&path),
        _ => vec![path],
    })
    .collect()
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").expect("the mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

/// Members of the busybox image's layer.
fn busybox_members() -> Vec<Member> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let mut members = vec![Member::file("bin/busybox", &program.expect("busybox-static is installed")).mode(0o755)];
    members.push(Member::directory("tmp").mode(0o1777));
    members.push(Member::directory("root").mode(0o700));
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n";
    members.push(Member::file("etc/passwd", passwd.as_bytes()));
    members.push(Member::file("etc/group", b"root:x:0:\nfriends:x:7:web\nstaff:x:50:web\n"));
    let applets = "sh ls cat echo sleep true false env id mkdir rm grep awk wc head tail ps mount umount hostname chmod
        chown dd kill seq stat tr yes stty tty mknod touch df ip sync setsid test unshare printf nc timeout usleep";
    members.extend(applets.split_whitespace().map(|name| Member::symlink(&format!("bin/{name}"), "busybox")));
    members
}
