//! Container logs: both formats as collectors read them, rotation, and one reader for both.

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::{Node, text};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tug_engine::*;
use tug_shim::log::rotated;

const FORMATS: [LogFormat; 2] = [LogFormat::Cri, LogFormat::JsonFile];

fn log(node: &Node, id: &str, format: LogFormat) -> Log {
    Log { format, path: node.path().join("pods").join(id).join("0.log"), ..Log::default() }
}

/// RFC 3339 with nanoseconds, in UTC.
fn is_time(text: &str) -> bool {
    text.len() == 30 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_in_the_format_asked_for() {
    let node = Node::with_busybox().await;
    let line = "echo out; echo 'say \"hi\"' >&2; printf cut";
    for format in FORMATS {
        let id = format!("{format:?}").to_lowercase();
        let log = log(&node, &id, format);
        node.run(ContainerSpec { log: log.clone(), ..node.spec(&id, &["sh", "-c", line]) }).await;
        let written = fs::read_to_string(&log.path).expect("a log");
        let mut seen: Vec<String> = written
            .lines()
            .map(|line| match format {
                LogFormat::Cri => {
                    let (time, rest) = line.split_once(' ').expect("a time");
                    assert!(is_time(time), "{time}");
                    rest.to_owned()
                }
                _ => {
                    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    assert!(is_time(value["time"].as_str().expect("a time")), "{line}");
                    format!("{} {}", value["stream"].as_str().expect("a stream"), value["log"])
                }
            })
            .collect();
        seen.sort();
        let expected = match format {
            LogFormat::Cri => ["stderr F say \"hi\"", "stdout F out", "stdout P cut"],
            _ => [r#"stderr "say \"hi\"\n""#, r#"stdout "cut""#, r#"stdout "out\n""#],
        };
        assert_eq!(seen, expected);
    }
    let none = Log { format: LogFormat::None, ..log(&node, "none", LogFormat::None) };
    let spec = ContainerSpec { log: none, ..node.spec("none", &["echo", "x"]) };
    node.start(spec).await.expect("it starts");
    node.ended("none").await;
    let error = node.engine.logs("none", LogOptions::default()).err().expect("nothing to read");
    assert_eq!(error.to_string(), "configured logging driver does not support reading");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_log_is_read() {
    let node = Node::with_busybox().await;
    for format in FORMATS {
        let id = format!("{format:?}").to_lowercase();
        // Each line waits until the one before is in the log: nothing else orders what two pipes bring, or parts two times.
        let line = "for i in 1 2 3; do echo $i; read go; done; echo last >&2; read go; printf end";
        let log = log(&node, &id, format);
        let spec = ContainerSpec { log, stdin: true, ..node.spec(&id, &["sh", "-c", line]) };
        node.start(spec).await.expect("it starts");
        let mut stdin = node.engine.attach(&id, true).await.expect("attached").stdin.expect("stdin");
        let mut following = node.engine.logs(&id, LogOptions { follow: true, ..LogOptions::default() }).expect("a log");
        for _ in 0..4 {
            following.next().await.expect("a line").expect("read");
            stdin.write_all(b"\n").await.expect("it is read");
        }
        node.ended(&id).await;
        assert_eq!(node.output(&id).await, "1\n2\n3\nlast\nend");
        let lines: Vec<LogLine> = node
            .engine
            .logs(&id, LogOptions::default())
            .expect("a log")
            .map(|line| line.expect("a line"))
            .collect()
            .await;
        assert_eq!(lines[3].stream, Stream::Stderr);
        let second = lines[1].time;
        let plain = LogOptions::default;
        let cases = [
            (LogOptions { tail: Some(0), ..plain() }, ""),
            (LogOptions { tail: Some(2), ..plain() }, "last\nend"),
            (LogOptions { tail: Some(9), ..plain() }, "1\n2\n3\nlast\nend"),
            (LogOptions { since: Some(second), ..plain() }, "2\n3\nlast\nend"),
            (LogOptions { until: Some(second), ..plain() }, "1\n2\n"),
            (LogOptions { since: Some(second), tail: Some(4), until: Some(second), follow: true }, "2\n"),
            (LogOptions { follow: true, ..plain() }, "1\n2\n3\nlast\nend"),
        ];
        for (options, expected) in cases {
            let read = text(node.engine.logs(&id, options.clone()).expect("a log")).await;
            assert_eq!(read, expected, "{options:?}");
        }
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_misses_nothing_while_files_rotate() {
    let node = Node::with_busybox().await;
    for format in FORMATS {
        let id = format!("{format:?}").to_lowercase();
        // Some 60 bytes a line: a file holds about sixty.
        let log = Log { max_bytes: 4096, max_files: 100, ..log(&node, &id, format) };
        let line =
            "read go; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && usleep 3000; done";
        let spec = ContainerSpec { log: log.clone(), stdin: true, ..node.spec(&id, &["sh", "-c", line]) };
        node.start(spec).await.expect("it starts");
        let following = node.engine.logs(&id, LogOptions { follow: true, ..LogOptions::default() }).expect("a log");
        let session = node.engine.attach(&id, true).await.expect("attached");
        let mut stdin = session.stdin.expect("stdin");
        stdin.write_all(b"go\n").await.expect("it is read");
        let expected: String = (1..=2000).map(|number| format!("{number}\n")).collect();
        let read = text(following).await;
        let differs = read.lines().zip(expected.lines()).find(|(read, expected)| read != expected);
        assert!(read == expected, "{format:?}: {} lines, {differs:?}", read.lines().count());
        assert!(rotated(&log.path, 10).exists(), "{format:?}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_files_go_and_the_rest_is_read() {
    let node = Node::with_busybox().await;
    for format in FORMATS {
        let id = format!("{format:?}").to_lowercase();
        let log = Log { max_bytes: 4096, max_files: 3, ..log(&node, &id, format) };
        let line = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; done";
        node.run(ContainerSpec { log: log.clone(), ..node.spec(&id, &["sh", "-c", line]) }).await;
        for (n, exists) in [(1, true), (2, true), (3, false)] {
            assert_eq!(rotated(&log.path, n).exists(), exists, "{format:?} {n}");
        }
        // What is left is read from its oldest line on.
        let kept = node.output(&id).await;
        let first: u32 = kept.lines().next().and_then(|line| line.parse().ok()).expect("a number");
        assert!(first > 1 && kept.ends_with("999\n1000\n"), "{first}");
        assert_eq!(kept.lines().count() as u32, 1000 - first + 1);
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_for_what_comes() {
    let node = Node::with_busybox().await;
    let spec = node.spec("one", &["sh", "-c", "echo first; read x; echo second; read x; echo third"]);
    node.start(ContainerSpec { stdin: true, ..spec }).await.expect("it starts");
    let began = SystemTime::now() - Duration::from_secs(60);
    let options = LogOptions { follow: true, since: Some(began), ..LogOptions::default() };
    let mut following = node.engine.logs("one", options).expect("a log");
    let mut stdin = node.engine.attach("one", true).await.expect("attached").stdin.expect("stdin");
    for expected in ["first\n", "second\n", "third\n"] {
        let line = tokio::time::timeout(common::PATIENCE, following.next()).await.expect("in time");
        assert_eq!(line.expect("a line").expect("no error").text, expected);
        if expected == "third\n" {
            break;
        }
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"\n").await.expect("it is read");
    }
    assert!(following.next().await.is_none(), "the log ends with the container");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_container() {
    let node = Node::with_busybox().await;
    let small = node.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &small, Some("tmpfs"), flags, Some("size=64k")).expect("a small disk");
    let log = Log { path: small.join("0.log"), ..Log::default() };
    let spec = ContainerSpec { log, ..node.spec("one", &["sh", "-c", "seq 100000; exit 6"]) };
    node.start(spec).await.expect("it starts");
    assert_eq!(node.ended("one").await.exit_code, Some(6));
    let said = fs::read_to_string(node.config.run_dir.join("sandboxes/one/shim.log")).expect("the shim's log");
    assert_eq!(said.matches("No space left on device").count(), 1, "{said}");
    // The log is let go with its container.
    node.engine.remove_container("one").await.expect("it goes");
    nix::mount::umount(&small).expect("unmounted");
    node.finish().await;
}
