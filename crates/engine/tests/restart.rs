//! An engine that dies at any moment: what runs goes on, what was told is kept, what was half made goes.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Node, PATIENCE, entries, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tug_engine::*;

/// For the process that is to be killed: the directory of its node, its control group, what to do and by which names.
const VICTIM: &str = "TUG_TEST_VICTIM";

/// No test of its own: the others run it as a process.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(told) = std::env::var(VICTIM) else { return };
    let [dir, cgroup, what, name] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    common::install_crypto();
    let engine = Engine::open(common::config(Path::new(dir), cgroup)).await.expect("an engine");
    say("open");
    let image = engine.images().resolve("busybox").expect("the image").id;
    let spec = |id: String, pod: &str, line: &str| ContainerSpec {
        log: Log { path: Path::new(dir).join("logs").join(&id).join("0.log"), ..Log::default() },
        id,
        sandbox: pod.into(),
        image: image.clone(),
        args: Some(["sh", "-c", line].map(str::to_owned).to_vec()),
        ..ContainerSpec::default()
    };
    let start = async |spec: ContainerSpec| {
        let id = spec.id.clone();
        engine.create_container(spec).await.expect("a container");
        say(&format!("created {id}"));
        engine.start_container(&id).await.expect("it starts");
        let pid = engine.container(&id).expect("it is known").pid;
        say(&format!("started {id} {}", pid.unwrap_or_default()));
    };
    match what {
        "counts" => {
            engine.create_sandbox(sandbox(name)).await.expect("a sandbox");
            let line = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; usleep 2000; done";
            start(spec(format!("{name}-0-counter"), name, line)).await;
            say("counting");
            std::future::pending::<()>().await;
        }
        "waits" => {
            for id in ["told", "lost", "stays"] {
                engine.create_sandbox(sandbox(id)).await.expect("a sandbox");
                let line = "trap 'exit 9' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
                start(spec(id.into(), id, line)).await;
            }
            let exec = async |seconds: &str, detached| {
                let command = vec!["sleep".to_owned(), seconds.to_owned()];
                engine.exec("stays", ExecSpec { command, detached, ..ExecSpec::default() }).await.expect("exec")
            };
            let _both = (exec("2001", false).await, exec("2002", true).await);
            say("waiting");
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    for round in 0.. {
        let pod = format!("{name}-{round}");
        let share_pid = round % 2 == 1;
        engine.create_sandbox(SandboxSpec { share_pid, ..sandbox(&pod) }).await.expect("a sandbox");
        say(&format!("ready {pod}"));
        let mut events = engine.events();
        start(spec(format!("{pod}-stays"), &pod, "exec sleep 1000")).await;
        let ends = format!("{pod}-ends");
        start(spec(ends.clone(), &pod, "exit 7")).await;
        while engine.container(&ends).is_some_and(|status| status.state != State::Exited) {
            let _news = events.recv().await;
        }
        say(&format!("exited {ends} 7"));
        let command = vec!["true".to_owned()];
        let session = engine.exec(&format!("{pod}-stays"), ExecSpec { command, ..ExecSpec::default() }).await;
        assert_eq!(session.expect("exec").exit.await, Ok(0));
        if round % 3 != 0 {
            say(&format!("leaving {pod}"));
            engine.remove_sandbox(&pod).await.expect("it goes");
            say(&format!("gone {pod}"));
        }
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("said {words}\n").as_bytes()).expect("the test listens");
    out.flush().expect("the test listens");
}

/// A process that has an engine on a node's directories, killed at the latest with this value.
struct Victim {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Victim {
    fn start(node: &Node, what: &str, name: &str) -> Self {
        let told = format!("{} {} {what} {name}", node.path().display(), node.config.cgroup_parent);
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, told)
            .env("TUG_SHIM", &node.config.program)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut victim = Victim { child, output };
        victim.hear("open");
        victim
    }

    /// Waits until it has said so; what it said before that.
    fn hear(&mut self, words: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("a pipe") > 0, "it ended before it said {words}");
            match line.trim_end().strip_prefix("said ") {
                Some(said) if said == words => return heard,
                Some(said) => heard.push(said.to_owned()),
                None => {}
            }
        }
    }

    /// All that it said since.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("a pipe");
        // The last line may be cut.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| line.strip_prefix("said ")).map(str::to_owned).collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Numbers that look random, the same each time.
fn noise(seed: u64) -> u64 {
    (seed + 1).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_leaves_what_it_told_and_nothing_else() {
    let mut node = Node::with_busybox().await;
    let mut told = BTreeMap::new();
    for attempt in 0..20 {
        let victim = Victim::start(&node, "lives", &format!("a{attempt}"));
        tokio::time::sleep(Duration::from_micros(noise(attempt) % 400_000)).await;
        let said = victim.kill();
        node = node.restart().await;
        for line in &said {
            let (what, about) = line.split_once(' ').expect("two words");
            match what {
                "leaving" => told.retain(|id: &String, _| !id.starts_with(&format!("{about}-"))),
                "started" | "exited" => {
                    let (id, number) = about.split_once(' ').expect("three words");
                    told.insert(id.to_owned(), (what == "started", number.parse::<u32>().expect("a number")));
                }
                "gone" => assert!(node.engine.sandboxes().iter().all(|pod| pod.id != about), "{about}"),
                _ => {}
            }
        }
        for (id, (runs, number)) in &told {
            let status = node.engine.container(id).expect("it was told of");
            match runs {
                // The one that ends may have ended before anybody said so.
                true if id.ends_with("-ends") => {}
                true => assert_eq!((status.state, status.pid), (State::Running, Some(*number)), "{id}"),
                false => assert_eq!((status.state, status.exit_code), (State::Exited, Some(*number as i32)), "{id}"),
            }
        }
        holds_together(&node).await;
        let stays = |status: &&ContainerStatus| status.state == State::Running && status.id.ends_with("-stays");
        for status in node.engine.containers().iter().filter(stays) {
            assert_eq!(node.exec(&status.id, &["echo", "alive"]).await.expect("exec"), (0, "alive\n".into()));
        }
    }
    for sandbox in node.engine.sandboxes() {
        node.engine.remove_sandbox(&sandbox.id).await.expect("it goes");
    }
    settled(&node, |node| node.left_behind().into_iter().map(|left| format!("left: {left}")).collect()).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_whole_whoever_dies_meanwhile() {
    let mut node = Node::with_busybox().await;
    let mut victim = Victim::start(&node, "counts", "pod");
    victim.hear("counting");
    victim.kill();
    node = node.restart().await;
    let following = LogOptions { follow: true, ..LogOptions::default() };
    let lines = common::text(node.engine.logs("pod-0-counter", following).expect("a log")).await;
    assert_eq!(lines, (1..=400).map(|number| format!("{number}\n")).collect::<String>());
    assert_eq!(node.ended("pod-0-counter").await.exit_code, Some(0));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_there_is_no_engine_has_ended() {
    let mut node = Node::with_busybox().await;
    let mut victim = Victim::start(&node, "waits", "pod");
    let said = victim.hear("waiting");
    victim.kill();
    let process = |id: &str| {
        let started = format!("started {id} ");
        let pid = said.iter().find_map(|line| line.strip_prefix(&started)?.parse::<i32>().ok());
        pid.expect("it was started")
    };
    let status = fs::read_to_string(format!("/proc/{}/status", process("lost"))).expect("it runs");
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:\t")?.parse::<i32>().ok()).expect("a parent");
    for (pid, signal) in [(process("told"), Signal::SIGTERM), (shim, Signal::SIGKILL)] {
        kill(Pid::from_raw(pid), signal).expect("it was there");
    }
    let recorded = node.config.run_dir.join("sandboxes/told/exits/told.json");
    settled(&node, |_| if recorded.exists() { vec![] } else { vec!["no record of the exit".into()] }).await;
    node = node.restart().await;
    for (id, state, code, ready) in [
        ("told", State::Exited, Some(9), true),
        ("lost", State::Exited, Some(137), false),
        ("stays", State::Running, None, true),
    ] {
        let status = node.engine.container(id).expect("it is kept");
        let sandbox = node.engine.sandboxes().into_iter().find(|sandbox| sandbox.id == id).expect("it is kept");
        assert_eq!((status.state, status.exit_code, sandbox.ready), (state, code, ready), "{id}");
    }
    holds_together(&node).await;
    // A command whose caller has died with the engine has ended, another goes on.
    let (_, processes) = node.exec("stays", &["ps", "-o", "args"]).await.expect("exec");
    assert!(!processes.contains("sleep 2001") && processes.contains("sleep 2002"), "{processes}");
    node.engine.start_container("told").await.expect("it starts again");
    node.said("told", "ready").await;
    for id in ["told", "stays"] {
        node.engine.stop_container(id, PATIENCE).await.expect("it stops");
        assert_eq!(node.ended(id).await.exit_code, Some(9), "{id}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_containers_have_ended_and_can_go() {
    let mut node = Node::with_busybox().await;
    let mut victim = Victim::start(&node, "waits", "pod");
    victim.hear("waiting");
    victim.kill();
    node.lose_power();
    node = node.restart().await;
    for status in node.engine.containers() {
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(137)), "{}", status.id);
    }
    assert!(node.engine.sandboxes().iter().all(|sandbox| !sandbox.ready));
    let error = node.engine.start_container("stays").await.expect_err("its sandbox is gone");
    assert!(error.to_string().starts_with("reach the sandbox's shim"), "{error}");
    node.finish().await;
}

/// That the kernel and the disk hold what the engine knows of, and nothing else.
async fn holds_together(node: &Node) {
    settled(node, |node| {
        let mut wrong = Vec::new();
        let (pods, containers) = (node.engine.sandboxes(), node.engine.containers());
        // A shared pid namespace has an init of its own.
        let ready = pods.iter().filter(|pod| pod.ready).map(|pod| 1 + usize::from(pod.spec.share_pid));
        let (found, expected) = (node.shims().len(), ready.sum::<usize>());
        if found != expected {
            wrong.push(format!("{found} processes of shims, {expected} expected"));
        }
        for (directory, known) in [
            ("data/containers", containers.iter().map(|status| status.id.as_str()).collect::<Vec<_>>()),
            ("data/sandboxes", pods.iter().map(|pod| pod.id.as_str()).collect()),
            ("run/sandboxes", pods.iter().map(|pod| pod.id.as_str()).collect()),
            ("run/ns", pods.iter().map(|pod| pod.id.as_str()).collect()),
        ] {
            for path in entries(&node.path().join(directory)) {
                let name = path.file_name().and_then(|name| name.to_str()).expect("a name").trim_end_matches(".json");
                if !known.contains(&name) {
                    wrong.push(format!("nobody's: {}", path.display()));
                }
            }
        }
        let mounted = |id: &str| node.path().join("data/containers").join(id).join("merged");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mount table");
        for status in &containers {
            let is = mounts.contains(&format!(" {} ", mounted(&status.id).display()));
            if is != (status.state == State::Running) {
                wrong.push(format!("{} is {:?}, mounted: {is}", status.id, status.state));
            }
        }
        wrong
    })
    .await;
}

/// Waits until nothing is wrong: what is being killed or unmounted takes a moment, of which nobody tells.
async fn settled(node: &Node, wrong: impl Fn(&Node) -> Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let wrong = wrong(node);
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
