//! exec and attach: streams, terminals, exit codes, and what becomes of a command whose caller goes.

mod common;

use std::time::Duration;

use common::{Node, PATIENCE, read_all};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tug_engine::*;

type Output = Box<dyn AsyncRead + Send + Unpin>;

/// Reads until `wanted` has come; what was read.
async fn read_until(stream: &mut Option<Output>, wanted: &str) -> String {
    let stream = stream.as_mut().expect("a stream");
    let mut text = String::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let count = stream.read(&mut buffer).await.expect("reading");
            assert!(count > 0, "the stream ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    let done = tokio::time::timeout(PATIENCE, read).await;
    assert!(done.is_ok(), "waiting for {wanted:?}, read {text:?}");
    text
}

async fn type_in(session: &mut Session, text: &str) {
    session.stdin.as_mut().expect("stdin").write_all(text.as_bytes()).await.expect("it is read");
}

fn command(line: &str) -> ExecSpec {
    ExecSpec { command: ["sh", "-c", line].map(str::to_owned).to_vec(), ..ExecSpec::default() }
}

/// Waits until a command line does or does not run in a container.
async fn runs(node: &Node, id: &str, line: &str, wanted: bool) {
    let look = format!("ps -o args | grep -v grep | grep -q '{line}'");
    let wait = async { while (node.exec(id, &["sh", "-c", &look]).await.expect("exec").0 == 0) != wanted {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{line} runs: {}", !wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_as_the_container_does_or_as_asked() {
    let node = Node::with_busybox().await;
    let spec = ContainerSpec {
        env: vec!["A=container".into(), "B=container".into()],
        user: Some("web".into()),
        working_dir: Some("/tmp".into()),
        cap_drop: vec!["KILL".into()],
        no_new_privileges: true,
        rlimits: vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft: 99, hard: 99 }],
        ..node.spec("one", &["sleep", "1000"])
    };
    node.start(spec).await.expect("it starts");
    let line = "id -u; pwd; echo $A $B $HOME; ulimit -n; hostname; awk '/CapEff|CapBnd|NoNew|Seccomp:/{print $2}' /proc/self/status";
    let plain = command(line);
    let other = ExecSpec {
        user: Some("root".into()),
        working_dir: Some("/etc".into()),
        env: vec!["B=mine".into()],
        ..plain.clone()
    };
    let none = "0000000000000000";
    let own = format!("33\n/tmp\ncontainer container /var/www\n99\none\n{none}\n00000000a80425db\n1\n2\n");
    let asked = "0\n/etc\ncontainer mine /root\n99\none\n00000000a80425db\n00000000a80425db\n1\n2\n".to_owned();
    for (spec, expected) in [(plain, own), (other, asked)] {
        let session = node.engine.exec("one", spec).await.expect("exec");
        assert_eq!((read_all(session.stdout).await, session.exit.await), (expected, Ok(0)));
    }
    let spec = ExecSpec { privileged: true, user: Some("0".into()), ..command("grep CapEff /proc/self/status") };
    let session = node.engine.exec("one", spec).await.expect("exec");
    assert_ne!(read_all(session.stdout).await, "CapEff:\t00000000a80425db\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_apart_and_end_with_a_code() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    let session = node.engine.exec("one", command("echo out; echo err >&2; exit 42")).await.expect("exec");
    let (out, err) = tokio::join!(read_all(session.stdout), read_all(session.stderr));
    assert_eq!((out.as_str(), err.as_str(), session.exit.await), ("out\n", "err\n", Ok(42)));
    // Input as large as no pipe is, back again, and its end.
    let mut session = node.engine.exec("one", ExecSpec { stdin: true, ..command("cat; exit 5") }).await.expect("exec");
    let mut stdin = session.stdin.take().expect("stdin");
    let long = vec![b'x'; 3 << 20];
    let sent = long.clone();
    let writing = tokio::spawn(async move {
        stdin.write_all(&sent).await.expect("it is read");
        stdin.shutdown().await.expect("closed");
    });
    assert_eq!(read_all(session.stdout).await.into_bytes(), long);
    writing.await.expect("no panic");
    assert_eq!(session.exit.await, Ok(5));
    // Killed by a signal.
    let session = node.engine.exec("one", command("kill -9 $$")).await.expect("exec");
    assert_eq!(session.exit.await, Ok(137));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_so() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    let not_found = "exec: \"nope\": executable file not found in $PATH";
    for (program, words) in [("nope", not_found), ("/etc/passwd", "exec: \"/etc/passwd\": permission denied")] {
        for tty in [false, true] {
            let spec = ExecSpec { command: vec![program.into()], tty, ..ExecSpec::default() };
            let error = node.engine.exec("one", spec).await.err().expect("it does not run").to_string();
            assert!(error.ends_with(words), "{error}");
        }
    }
    node.engine.stop_container("one", Duration::ZERO).await.expect("it stops");
    let error = node.engine.exec("one", command("true")).await.err().expect("it has ended");
    assert_eq!(error.to_string(), "container one is not running");
    assert!(matches!(node.engine.attach("one", false).await, Err(Error::Conflict(_))));
    assert!(matches!(node.engine.exec("none", command("true")).await, Err(Error::NotFound(_))));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one() {
    let node = Node::with_busybox().await;
    // A name as long as names may be.
    let long = "a".repeat(64);
    node.start(node.spec(&long, &["sleep", "1000"])).await.expect("it starts");
    let spec = ExecSpec { tty: true, stdin: true, ..command("tty; stty size; echo $TERM; exec sh") };
    let mut session = node.engine.exec(&long, spec).await.expect("exec");
    assert!(session.stderr.is_none());
    let text = read_until(&mut session.stdout, "xterm\r\n").await;
    assert!(text.starts_with("/dev/pts/"), "{text:?}");
    session.resize.send(Size { rows: 33, columns: 111 }).await.expect("taken");
    // Set by another task: asked until it is.
    type_in(&mut session, "until [ \"$(stty size)\" = '33 111' ]; do :; done; echo si''zed\n").await;
    read_until(&mut session.stdout, "sized\r\n").await;
    // The terminal turns a control character into a signal.
    type_in(&mut session, "echo wai''ting; sleep 1000\n").await;
    read_until(&mut session.stdout, "waiting\r\n").await;
    runs(&node, &long, "^sleep 1000", true).await;
    type_in(&mut session, "\u{3}").await;
    type_in(&mut session, "exit 9\n").await;
    assert_eq!(session.exit.await, Ok(9));
    read_all(session.stdout).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_caller_unless_detached() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    for tty in [false, true] {
        // With children of its own, which ignore a closed terminal.
        let spec = ExecSpec { tty, ..command("trap '' HUP; sleep 2001 & sleep 2002") };
        let session = node.engine.exec("one", spec).await.expect("exec");
        runs(&node, "one", "sleep 2001", true).await;
        runs(&node, "one", "sleep 2002", true).await;
        drop(session);
        runs(&node, "one", "sleep 2001", false).await;
        runs(&node, "one", "sleep 2002", false).await;
    }
    let session =
        node.engine.exec("one", ExecSpec { detached: true, ..command("exec sleep 2003") }).await.expect("exec");
    drop(session);
    runs(&node, "one", "sleep 2003", true).await;
    node.finish().await;
}

/// containerd waits for the output's end (`drain_exec_sync_io_timeout` is 0), Docker for the command's and two seconds
/// more: a session tells of both, and kills nothing that the command left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_commands_end_is_told_though_its_output_is_held_open() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    let line = "sleep 2004 & echo started; exit 3";
    let mut session = node.engine.exec("one", command(line)).await.expect("exec");
    assert_eq!(tokio::time::timeout(PATIENCE, session.exit).await.expect("it is told"), Ok(3));
    assert_eq!(read_until(&mut session.stdout, "started\n").await, "started\n");
    runs(&node, "one", "sleep 2004", true).await;
    let rest = tokio::spawn(read_all(session.stdout));
    node.exec("one", &["sh", "-c", "kill $(ps -o pid,args | awk '/sleep 2004$/{print $1}')"]).await.expect("exec");
    assert_eq!(tokio::time::timeout(PATIENCE, rest).await.expect("it ends").expect("no panic"), "");
    // A terminal is hung up with the session that has it.
    let spec = ExecSpec { tty: true, ..command("sleep 2005 & echo started; exit 4") };
    let session = node.engine.exec("one", spec).await.expect("exec");
    let text = tokio::time::timeout(PATIENCE, read_all(session.stdout)).await.expect("it ends");
    assert_eq!((text.as_str(), session.exit.await), ("started\r\n", Ok(4)));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_leave_no_files_or_processes_behind() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    let run = node.config.run_dir.join("sandboxes/one");
    let count = || walk(&run);
    node.exec("one", &["true"]).await.expect("exec");
    let before = count();
    for round in 0..5 {
        let one = async |number: usize| {
            let tty = number.is_multiple_of(2);
            let session =
                node.engine.exec("one", ExecSpec { tty, ..command(&format!("exit {number}")) }).await.expect("exec");
            assert_eq!(session.exit.await, Ok(number as i32), "round {round}");
        };
        futures::future::join_all((0..10).map(one)).await;
    }
    assert_eq!(count(), before);
    node.finish().await;
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in common::entries(directory) {
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_reads_and_feeds_a_container() {
    let node = Node::with_busybox().await;
    let spec = node.spec("one", &["sh", "-c", "while read line; do echo got $line; echo err >&2; done; exit 8"]);
    node.start(ContainerSpec { stdin: true, stdin_once: true, ..spec }).await.expect("it starts");
    let mut watching = node.engine.attach("one", false).await.expect("attached");
    let mut feeding = node.engine.attach("one", true).await.expect("attached");
    assert!(watching.stdin.is_none());
    type_in(&mut feeding, "first\n").await;
    for session in [&mut feeding, &mut watching] {
        read_until(&mut session.stdout, "got first\n").await;
        read_until(&mut session.stderr, "err\n").await;
    }
    // The first to leave with stdin open closes it: `stdin_once`.
    drop(feeding);
    let told = tokio::time::timeout(PATIENCE, watching.exit).await.expect("it hears of the end");
    assert_eq!(told, Ok(8));
    assert_eq!(node.ended("one").await.exit_code, Some(8));
    assert_eq!(node.output("one").await.matches("got first\n").count(), 1);

    // Without it stdin stays open for the next.
    let spec = node.spec("two", &["sh", "-c", "read a; read b; echo $a $b"]);
    node.start(ContainerSpec { stdin: true, ..spec }).await.expect("it starts");
    for word in ["here\n", "there\n"] {
        let mut session = node.engine.attach("two", true).await.expect("attached");
        type_in(&mut session, word).await;
        drop(session.stdin.take());
    }
    node.ended("two").await;
    assert_eq!(node.output("two").await, "here there\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_to_a_terminal() {
    let node = Node::with_busybox().await;
    let spec = node.spec("one", &["sh", "-c", "read x; stty size; echo got $x; exit 3"]);
    node.start(ContainerSpec { tty: true, stdin: true, ..spec }).await.expect("it starts");
    let mut session = node.engine.attach("one", true).await.expect("attached");
    session.resize.send(Size { rows: 40, columns: 120 }).await.expect("taken");
    // Until the size is set: it is asked for through the shim.
    let set = async {
        while node.exec("one", &["sh", "-c", "stty size < /dev/console"]).await.expect("exec").1 != "40 120\n" {}
    };
    tokio::time::timeout(PATIENCE, set).await.expect("the size is set");
    type_in(&mut session, "word\n").await;
    let text = read_until(&mut session.stdout, "got word\r\n").await;
    assert!(text.contains("40 120\r\n"), "{text:?}");
    assert_eq!(session.exit.await, Ok(3));
    assert!(node.output("one").await.contains("got word"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_nothing_up() {
    let node = Node::with_busybox().await;
    let spec = node.spec("one", &["sh", "-c", "read x; seq 400000; echo done"]);
    node.start(ContainerSpec { stdin: true, ..spec }).await.expect("it starts");
    let _stuck = node.engine.attach("one", false).await.expect("attached");
    let mut feeding = node.engine.attach("one", true).await.expect("attached");
    type_in(&mut feeding, "go\n").await;
    drop(feeding);
    node.ended("one").await;
    let output = node.output("one").await;
    assert!(output.ends_with("399999\n400000\ndone\n"));
    node.finish().await;
}
