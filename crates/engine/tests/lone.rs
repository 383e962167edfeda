//! A lone container: its sandbox is its own, made when it starts and let go of when it has ended.

mod common;

use std::fs;
use std::time::Duration;

use common::{Node, PATIENCE, read_all, sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tug_engine::*;

fn lone(id: &str) -> SandboxSpec {
    SandboxSpec { lone: true, ..sandbox(id) }
}

/// A control file of a container's own control group, by its names in v1 and v2.
fn control(node: &Node, id: &str, v1: (&str, &str), v2: &str) -> String {
    let cgroup = format!("{}/{id}", node.config.cgroup_parent);
    let file = match tug_shim::cgroup::layout() {
        tug_shim::cgroup::Layout::V1 => tug_shim::cgroup::directory(&cgroup, v1.0).join(v1.1),
        tug_shim::cgroup::Layout::V2 => tug_shim::cgroup::directory(&cgroup, "").join(v2),
    };
    fs::read_to_string(&file).unwrap_or_else(|err| panic!("{}: {err}", file.display())).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_before_its_sandbox_and_outlives_it() {
    let node = Node::with_busybox().await;
    let spec = ContainerSpec {
        limits: Limits { memory_bytes: 32 << 20, ..Limits::default() },
        ..node.spec("a", &["sh", "-c", "echo run >>/runs; cat /runs; hostname"])
    };
    node.engine.create_container_with(spec, Some(b"one".to_vec())).await.expect("it is made");
    for runs in 1..=2 {
        node.engine.create_sandbox(lone("a")).await.expect("its sandbox");
        let session = node.engine.attach_early("a", false).await.expect("attached");
        node.engine.start_container("a").await.expect("it starts");
        // From its first byte on, however soon it ended.
        assert_eq!(read_all(session.stdout).await, "run\n".repeat(runs) + "a\n");
        assert_eq!(session.exit.await, Ok(0));
        node.ended("a").await;
        node.engine.release_sandbox("a").await.expect("its sandbox goes");
        assert!(node.engine.sandboxes().is_empty() && node.shims().is_empty());
    }
    assert_eq!(node.engine.annex("a").expect("what came with it"), b"one");
    node.engine.set_annex("a", b"two".to_vec()).await.expect("it is written");
    let node = node.restart().await;
    assert_eq!(node.engine.container("a").map(|status| status.exit_code), Some(Some(0)));
    assert_eq!(node.engine.annex("a").expect("what came with it"), b"two");
    node.engine.remove_container("a").await.expect("it goes");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attached_early_feeds_it_and_leaves_without_harm() {
    let node = Node::with_busybox().await;
    let spec = ContainerSpec { stdin: true, stdin_once: true, ..node.spec("a", &["cat"]) };
    node.engine.create_container(spec).await.expect("it is made");
    node.engine.create_sandbox(lone("a")).await.expect("its sandbox");
    let gone = node.engine.attach_early("a", false).await.expect("attached");
    drop(gone);
    let mut session = node.engine.attach_early("a", true).await.expect("attached");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"early\n").await.expect("it is taken");
    node.engine.start_container("a").await.expect("it starts");
    drop(stdin);
    assert_eq!(read_all(session.stdout).await, "early\n");
    assert_eq!(session.exit.await, Ok(0));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_share_anothers_network_and_ipc() {
    let node = Node::with_busybox().await;
    node.engine.create_sandbox(lone("a")).await.expect("a sandbox");
    let joined = SandboxSpec { net_of: Some("a".into()), ipc_of: Some("a".into()), ..lone("b") };
    assert_eq!(node.engine.create_sandbox(joined).await.expect("another").netns, None);
    let line = "ls -L -i /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts | awk '{print $1}'; ls /dev/shm";
    let mut seen = Vec::new();
    for id in ["a", "b"] {
        let line = if id == "a" { format!("touch /dev/shm/mine; {line}") } else { line.to_owned() };
        let lines = node.shell(id, &line).await;
        seen.push(lines.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    // In the order of ls: ipc, net, uts.
    assert_eq!(seen[0][..2], seen[1][..2]);
    assert_ne!(seen[0][2], seen[1][2]);
    assert_eq!(seen[1][3..], ["mine"]);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_one_stands_still_until_it_goes_on_or_is_ended() {
    let node = Node::with_busybox().await;
    for id in ["a", "b", "c"] {
        let spec = ContainerSpec {
            stdin: true,
            ..node.spec(id, &["sh", "-c", "trap 'exit 7' TERM; while read l; do echo $l; done"])
        };
        node.engine.create_sandbox(lone(id)).await.expect("its sandbox");
        node.start(spec).await.expect("it starts");
        node.engine.pause_container(id).await.expect("it pauses");
        let again = node.engine.pause_container(id).await.expect_err("it is paused");
        assert_eq!(again.to_string(), format!("Container {id} is already paused"));
        assert_eq!(node.engine.container(id).map(|status| status.state), Some(State::Paused));
    }
    // A restarted engine still knows.
    let node = node.restart().await;
    let mut session = node.engine.attach("a", true).await.expect("attached");
    session.stdin.as_mut().expect("stdin").write_all(b"word\n").await.expect("it is taken");
    node.engine.unpause_container("a").await.expect("it goes on");
    assert!(matches!(node.engine.unpause_container("a").await, Err(Error::Conflict(_))));
    let mut word = [0; 5];
    session.stdout.as_mut().expect("stdout").read_exact(&mut word).await.expect("output");
    assert_eq!(&word, b"word\n");
    node.engine.stop_container("b", PATIENCE).await.expect("it stops");
    assert_eq!(node.ended("b").await.exit_code, Some(7));
    node.engine.kill_container("c", 9).await.expect("it is killed");
    assert_eq!(node.ended("c").await.exit_code, Some(137));
    node.engine.pause_container("a").await.expect("it pauses");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs_and_stay() {
    let node = Node::with_busybox().await;
    let memory = |node: &Node| control(node, "a", ("memory", "memory.limit_in_bytes"), "memory.max");
    let limits = |megabytes: u64| Limits { memory_bytes: megabytes << 20, ..Limits::default() };
    let spec = ContainerSpec { limits: limits(64), ..node.spec("a", &["sleep", "1000"]) };
    node.engine.create_container(spec.clone()).await.expect("it is made");
    let start = async || {
        node.engine.create_sandbox(lone("a")).await.expect("its sandbox");
        node.engine.start_container("a").await.expect("it starts");
    };
    start().await;
    assert_eq!(memory(&node), (64u64 << 20).to_string());
    let own = node.engine.container("a").and_then(|status| status.pid).expect("a process");
    assert!(node.engine.processes("a").expect("processes").contains(&own));
    let changed = ContainerSpec { limits: limits(96), ..spec.clone() };
    node.engine.change_container("a", changed, true).await.expect("it changes");
    assert_eq!(memory(&node), (96u64 << 20).to_string());
    // A limit that the kernel refuses is told, and what was there stays.
    let refused = ContainerSpec { limits: Limits { cpuset_cpus: "4000".into(), ..limits(128) }, ..spec };
    assert!(node.engine.change_container("a", refused, true).await.is_err());
    node.engine.stop_container("a", Duration::ZERO).await.expect("it stops");
    node.engine.release_sandbox("a").await.expect("its sandbox goes");
    start().await;
    assert_eq!(memory(&node), (96u64 << 20).to_string());
    node.finish().await;
}
