//! One file a command, or a few that do one thing.

pub mod image;
pub mod logs;
pub mod show;
pub mod ssh;
pub mod start;
pub mod status;
pub mod stop;

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use tug_machine::Machine;

use crate::cli::Named;

/// The machine of a cluster that must exist.
fn existing(named: &Named) -> Result<Machine> {
    match tug_machine::load(&named.name)? {
        Some(machine) => Ok(machine),
        None => bail!("there is no cluster {:?}; make it with: tug start --name {}", named.name, named.name),
    }
}

/// The machine of a cluster that must run.
fn running(named: &Named) -> Result<Machine> {
    let machine = existing(named)?;
    if machine.pid().is_none() {
        bail!("cluster {:?} is stopped; start it with: tug start --name {}", named.name, named.name);
    }
    Ok(machine)
}

/// A line on standard output.
///
/// # Errors
/// `BrokenPipe` once nobody reads any more, which `println!` would panic on.
fn show(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// A runtime for the few calls that a command waits for.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?.block_on(future)
}
