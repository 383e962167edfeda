//! `tug ssh`: a command or a shell on a cluster's node.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::SshArgs;
use crate::commands::running;
use crate::preflight;

pub fn run(args: SshArgs) -> Result<ExitCode> {
    preflight::require_root("ssh")?;
    let machine = running(&args.cluster)?;
    let command = if args.command.is_empty() { vec!["/bin/sh".to_owned()] } else { args.command };
    let status = tug_machine::enter_and_run(&machine, &command)?;
    // As a shell tells it: 128 and the signal's number.
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}
