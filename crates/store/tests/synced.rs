//! Acknowledged means on disk: a trace of the system calls shows each answer behind its transaction's fdatasync, for what
//! a killed process leaves behind would be there without one.

use std::process::Command;

use bytes::Bytes;
use tug_store::{Condition, SqliteStore, Store, Write};

/// Set for the process that is traced, to the directory of its store.
const TRACED: &str = "TUG_TEST_TRACED";
const WRITES: usize = 20;

#[test]
fn each_answer_comes_after_its_sync() {
    if let Some(directory) = std::env::var_os(TRACED) {
        return write_and_tell(std::path::Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (trace, program) = (directory.path().join("trace"), std::env::current_exe().expect("this test"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-e", "trace=pwrite64,fdatasync,write", "-o"]).arg(&trace).arg(program);
    strace.args(["--exact", "--nocapture", "each_answer_comes_after_its_sync"]).env(TRACED, directory.path());
    let output = strace.output().expect("strace is installed");
    assert!(output.status.success(), "{output:?}");

    let trace = std::fs::read_to_string(trace).expect("a trace");
    let (mut unsynced, mut syncs, mut answers) = (false, 0, 0);
    for line in trace.lines() {
        if line.contains("pwrite64(") && line.contains("state.db-wal>") {
            unsynced = true;
        } else if line.contains("fdatasync(") && line.contains("state.db-wal>") && line.ends_with(" = 0") {
            (unsynced, syncs) = (false, syncs + 1);
        } else if line.contains("fdatasync resumed") && line.ends_with(" = 0") {
            // The writer is the only thread that syncs, and it does nothing else meanwhile.
            (unsynced, syncs) = (false, syncs + 1);
        } else if line.contains("write(1") && line.contains("answered") {
            assert!(!unsynced, "answered before the sync\n{trace}");
            assert!(syncs > 0, "answered without a sync\n{trace}");
            (syncs, answers) = (0, answers + 1);
        }
    }
    assert_eq!(answers, WRITES, "{trace}");
}

fn write_and_tell(directory: &std::path::Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = SqliteStore::open(directory.join("state.db")).expect("opens");
    println!();
    for n in 0..WRITES {
        let write = Write { key: format!("/{n}"), value: Some(Bytes::from_static(b"x")), condition: Condition::Absent };
        runtime.block_on(store.write(write)).expect("writes");
        println!("answered {n}");
    }
}
