//! Runs a command inside a machine, as its `ssh` would.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use nix::sched::{CloneFlags, setns};

use crate::record::Machine;
use crate::{During, Error, Result};

/// The machine's namespace of a type (`net`, `mnt` …), as the host sees it; `None` when it doesn't run.
pub fn namespace(machine: &Machine, kind: &str) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/proc/{}/ns/{kind}", machine.pid()?)))
}

/// Moves this process into the machine and runs `command` there, on this process's terminal.
///
/// The process must have one thread, and is of no other use afterwards.
pub fn enter_and_run(machine: &Machine, command: &[String]) -> Result<ExitStatus> {
    let kinds = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        // Last: /proc/<pid> of the host is out of sight behind it.
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let mut opened = Vec::new();
    for (kind, flag) in kinds {
        let path = namespace(machine, kind)
            .ok_or_else(|| Error::Refused(format!("machine {} isn't running; start it first", machine.name)))?;
        opened.push((File::open(&path).during(format!("opening {}", path.display()))?, kind, flag));
    }
    for (file, kind, flag) in opened {
        setns(file, flag).during(format!("entering the machine's {kind} namespace"))?;
    }
    let (program, args) = command.split_first().ok_or_else(|| Error::Refused("no command was given".into()))?;
    Command::new(program).args(args).current_dir("/").status().during(format!("running {program}"))
}
