//! How containers end and are ended: exit codes, signals, memory, starting again, removal.

mod common;

use std::time::Duration;

use common::archive::Image;
use common::{Node, PATIENCE, sandbox};
use serde_json::json;
use tug_engine::*;

const LONG: Duration = Duration::from_secs(1000);

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_after_the_grace() {
    let node = Node::with_busybox().await;
    let busybox = Image::busybox();
    let config = json!({ "Cmd": ["sh"], "StopSignal": "SIGUSR1" });
    node.load(&Image { name: "usr1:1".into(), config, layers: busybox.layers }).await;
    // Says that its traps are set, then waits in a child that the signal does not reach.
    let trap = |signal: &str, code: u32| {
        format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 1000 & wait $!; done")
    };
    let cases = [
        ("busybox", None, trap("TERM", 3), LONG, 3),
        ("busybox", Some("SIGINT"), trap("INT", 4), LONG, 4),
        ("usr1:1", None, trap("USR1", 5), LONG, 5),
        ("usr1:1", Some("QUIT"), trap("QUIT", 6), LONG, 6),
        ("busybox", None, trap("''", 0).replace("exit 0' ''", "' TERM"), Duration::from_millis(50), 137),
        ("busybox", None, trap("TERM", 7), Duration::ZERO, 137),
    ];
    for (number, (image, signal, line, grace, code)) in cases.into_iter().enumerate() {
        let id = format!("case-{number}");
        let spec = node.spec(&id, &["sh", "-c", &line]);
        let stop_signal = signal.map(str::to_owned);
        node.start(ContainerSpec { image: node.image(image), stop_signal, ..spec }).await.expect("it starts");
        node.said(&id, "ready").await;
        node.engine.stop_container(&id, grace).await.expect("it stops");
        let status = node.engine.container(&id).expect("it is kept");
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(code)), "{image} {line}");
        node.engine.stop_container(&id, grace).await.expect("stopping twice is no error");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_arrive_and_their_deaths_are_codes() {
    let node = Node::with_busybox().await;
    for (signal, code) in [(9, 137), (64, 192)] {
        let id = format!("signal-{signal}");
        node.start(
            node.spec(&id, &["sh", "-c", "trap 'exit 192' 64; echo ready; while :; do sleep 1000 & wait $!; done"]),
        )
        .await
        .expect("it starts");
        node.said(&id, "ready").await;
        node.engine.kill_container(&id, signal).await.expect("it is signalled");
        assert_eq!(node.ended(&id).await.exit_code, Some(code), "{signal}");
        let again = node.engine.kill_container(&id, signal).await.expect_err("it has ended");
        assert!(matches!(&again, Error::Conflict(words) if words.ends_with("is not running")), "{again}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_a_containers_first_process_dies_with_it() {
    let node = Node::with_busybox().await;
    let shared = SandboxSpec { share_pid: true, ..sandbox("pod") };
    node.engine.create_sandbox(shared).await.expect("a sandbox");
    let line = "setsid sleep 1000 & echo started";
    let spec = ContainerSpec { sandbox: "pod".into(), ..node.spec("one", &["sh", "-c", line]) };
    // The sleeper holds the output open; the container ends all the same.
    assert_eq!(node.run(spec).await, (0, "started\n".into()));
    let count = "ps -o args | grep -v grep | grep -c 'sleep 1000' || true";
    let spec = ContainerSpec { sandbox: "pod".into(), ..node.spec("two", &["sh", "-c", count]) };
    assert_eq!(node.run(spec).await, (0, "0\n".into()));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_is_an_oom_kill() {
    let node = Node::with_busybox().await;
    let limits = Limits { memory_bytes: 16 << 20, memory_swap_bytes: 16 << 20, pids: 20, ..Limits::default() };
    let spec = |id: &str, line: &str| ContainerSpec { limits: limits.clone(), ..node.spec(id, &["sh", "-c", line]) };
    let mut events = node.engine.events();
    node.run(spec("greedy", "exec dd if=/dev/zero of=/dev/null bs=64M count=1")).await;
    let status = node.engine.container("greedy").expect("it is kept");
    assert_eq!((status.exit_code, status.oom_killed), (Some(137), true));
    let told = loop {
        if let Event::Exited { oom_killed, .. } = events.recv().await.expect("news") {
            break oom_killed;
        }
    };
    assert!(told, "the event says so too");
    let (code, output) =
        node.run(spec("modest", "dd if=/dev/zero of=/dev/null bs=4M count=1 2>/dev/null; echo fine")).await;
    assert_eq!((code, output.as_str()), (0, "fine\n"));
    assert!(!node.engine.container("modest").expect("it is kept").oom_killed);
    // Started again, it is not blamed for the earlier run.
    let line = "test -e /again && exit 0; touch /again; exec dd if=/dev/zero of=/dev/null bs=64M count=1";
    node.run(spec("twice", line)).await;
    node.engine.start_container("twice").await.expect("it starts again");
    let status = node.ended("twice").await;
    assert_eq!((status.exit_code, status.oom_killed), (Some(0), false));
    let (code, _) = node.run(spec("forks", "for i in $(seq 40); do sleep 1000 & done; exit 0")).await;
    assert_ne!(code, 0, "twenty processes are the most");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_in_the_control_groups() {
    let node = Node::with_busybox().await;
    let limits = Limits {
        memory_bytes: 64 << 20,
        cpu_shares: 512,
        cpu_quota_micros: 50_000,
        cpu_period_micros: 100_000,
        cpuset_cpus: "0".into(),
        pids: 77,
        ..Limits::default()
    };
    let pod = Limits { memory_bytes: 128 << 20, ..limits.clone() };
    let spec = SandboxSpec { cgroup: "kubepods/burstable/podx".into(), limits: pod, ..sandbox("pod") };
    node.engine.create_sandbox(spec).await.expect("a sandbox");
    let spec = ContainerSpec { sandbox: "pod".into(), limits, ..node.spec("one", &["sleep", "1000"]) };
    node.start(spec).await.expect("it starts");
    let pod = format!("{}/kubepods/burstable/podx", node.config.cgroup_parent);
    let v2 = tug_shim::cgroup::layout() == tug_shim::cgroup::Layout::V2;
    let files = match v2 {
        true => [
            ("memory", "memory.max"),
            ("cpu", "cpu.weight"),
            ("cpu", "cpu.max"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ],
        false => [
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ],
    };
    let (weight, quota) = if v2 { ("59", "50000 100000") } else { ("512", "50000") };
    for (cgroup, memory) in [(pod.clone(), "134217728"), (format!("{pod}/one"), "67108864")] {
        for ((controller, file), expected) in files.into_iter().zip([memory, weight, quota, "0", "77"]) {
            let path = tug_shim::cgroup::directory(&cgroup, controller).join(file);
            let value = std::fs::read_to_string(&path).expect("a limit");
            assert_eq!(value.trim(), expected, "{}", path.display());
        }
    }
    let stats = node.engine.stats("one").await.expect("measurements");
    assert!(stats.pids == 1 && stats.memory_bytes > 0 && stats.cpu_nanos > 0, "{stats:?}");
    node.engine.remove_sandbox("pod").await.expect("it goes");
    for directory in tug_shim::cgroup::directories(&pod) {
        let class = directory.parent().expect("the pod's class");
        // As with upstream's kubelet, the class stays: other pods are in it, or come to be.
        assert!(!directory.exists() && class.exists(), "{}", directory.display());
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_starts_again_with_what_it_wrote() {
    let node = Node::with_busybox().await;
    let spec = node.spec("one", &["sh", "-c", "echo x >> /runs; wc -l < /runs; exit 4"]);
    assert_eq!(node.run(spec).await, (4, "1\n".into()));
    let error = node.engine.create_container(node.spec("one", &["true"])).await.expect_err("the id is taken");
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    node.engine.start_container("one").await.expect("it starts again");
    node.ended("one").await;
    assert_eq!(node.output("one").await, "1\n2\n");
    let longer = node.spec("two", &["sleep", "1000"]);
    node.start(longer).await.expect("it starts");
    assert!(matches!(node.engine.start_container("two").await, Err(Error::Conflict(_))), "it runs");
    assert!(matches!(node.engine.remove_container("two").await, Err(Error::Conflict(_))), "it runs");
    node.engine.remove_container("one").await.expect("it has ended");
    node.engine.remove_container("one").await.expect("removing twice is no error");
    assert!(node.engine.container("one").is_none());
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_takes_its_sandbox_along() {
    let node = Node::with_busybox().await;
    for share_pid in [false, true] {
        let id = if share_pid { "shared" } else { "one" };
        node.engine.create_sandbox(SandboxSpec { share_pid, ..sandbox(id) }).await.expect("a sandbox");
        node.start(node.spec(id, &["sleep", "1000"])).await.expect("it starts");
        let mut events = node.engine.events();
        let own =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "tug-shim\n");
        let deadline = std::time::Instant::now() + PATIENCE;
        let shim = loop {
            // The process that started the container is on its way out; the container is in no hierarchy's group of shims.
            let pids = node.shims();
            if pids.len() == 1 + usize::from(share_pid) {
                break pids.into_iter().find(own).expect("one of that name");
            }
            assert!(std::time::Instant::now() < deadline, "{pids:?}");
            tokio::task::yield_now().await;
        };
        let threads = std::fs::read_dir(format!("/proc/{shim}/task")).expect("its threads").count();
        assert_eq!(threads, 1);
        let pid = nix::unistd::Pid::from_raw(shim as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
        let died = |event: &Event| matches!(event, Event::SandboxDied { id: dead } if dead == id);
        while !died(&events.recv().await.expect("news")) {}
        let status = node.engine.container(id).expect("it is kept");
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(137)));
        assert!(node.engine.sandboxes().iter().all(|sandbox| !sandbox.ready));
        while !node.shims().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", node.shims());
            tokio::task::yield_now().await;
        }
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_is_named_before_it_runs() {
    let script = |dir: &std::path::Path| {
        let (script, shim) = (dir.join("exe"), common::shim());
        let tell = format!("read name < /proc/$$/comm; echo $name > {}", dir.join("named").display());
        let text = format!("#!/bin/sh\n{tell}\nexec {} \"$@\"\n", shim.display());
        std::fs::write(&script, text).expect("writing");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        script
    };
    let node = Node::with_program(script).await;
    node.sandbox("named").await;
    assert_eq!(std::fs::read_to_string(node.path().join("named")).expect("written"), "tug-shim\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_leave_nothing() {
    let node = Node::with_busybox().await;
    let one = async |number: usize| {
        let id = format!("many-{number}");
        let spec = node.spec(&id, &["sh", "-c", &format!("echo {number}")]);
        assert_eq!(node.run(spec).await, (0, format!("{number}\n")));
        node.engine.remove_sandbox(&id).await.expect("it goes");
    };
    futures::future::join_all((0..40).map(one)).await;
    node.finish().await;
}
