//! `tug`: parses the command line and starts the parts. Processes that must have one thread (PID 1 of a machine, shims,
//! a shell in a machine) are told apart here, before any runtime is made.
#![forbid(unsafe_code)]

mod caller;
mod cli;
mod commands;
mod config;
mod lock;
mod notify;
mod preflight;
mod server;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    if args.next().is_some_and(|first| first == "shim") {
        return tug_shim::main(args);
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        // Whoever read the output has read enough: `tug logs | head`.
        Err(error) if error.downcast_ref().is_some_and(|e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::MachineInit { name } => Ok(tug_machine::run_as_init(&name)),
        Command::Ssh(args) => commands::ssh::run(args),
        Command::Server(args) => server::run(args),
        Command::Start(args) => commands::start::run(args),
        Command::Stop(args) => commands::stop::stop(args),
        Command::Delete(args) => commands::stop::delete(args),
        Command::Status(args) => commands::status::run(args),
        Command::Ip(args) => commands::show::ip(args),
        Command::Logs(args) => commands::logs::run(args),
        Command::Kubeconfig(args) => commands::show::kubeconfig(args),
        Command::Image(args) => commands::image::run(args),
        Command::Completion { shell } => commands::show::completion(shell),
        Command::Version => commands::show::version(),
    }
}
