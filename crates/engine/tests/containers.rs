//! Containers run by a real shim in real namespaces: what they see, how they end, and that nothing is left of them.

mod common;

use common::Node;
use tug_engine::ContainerSpec;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_to_its_end() {
    let node = Node::with_busybox().await;
    let (code, output) = node.run(node.spec("one", &["sh", "-c", "echo hello; echo oops >&2; exit 7"])).await;
    assert_eq!(code, 7);
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["hello", "oops"]);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_one_has_what_this_machine_can_give() {
    let node = Node::with_busybox().await;
    let command = ["sh", "-c", "grep CapEff /proc/self/status; mount -t tmpfs x /tmp && ls /dev/loop-control"];
    let spec = ContainerSpec { privileged: true, ..node.spec("one", &command) };
    let (code, output) = node.run(spec).await;
    let own = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("a bounding set");
    assert_eq!((code, output), (0, format!("CapEff:\t{bounding}\n/dev/loop-control\n")));
    node.finish().await;
}
