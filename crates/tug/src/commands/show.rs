//! Commands that print something and change nothing.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::{Cli, Named};
use crate::commands::{existing, show};
use crate::preflight;

pub fn ip(args: Named) -> Result<ExitCode> {
    preflight::require_root("ip")?;
    show(existing(&args)?.address)?;
    Ok(ExitCode::SUCCESS)
}

pub fn kubeconfig(args: Named) -> Result<ExitCode> {
    preflight::require_root("kubeconfig")?;
    let machine = existing(&args)?;
    let path = machine.paths().data().join("server/admin.kubeconfig");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    show(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

pub fn completion(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tug", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub fn version() -> Result<ExitCode> {
    show(format_args!("tug {} (Kubernetes {})", env!("CARGO_PKG_VERSION"), crate::server::KUBERNETES_VERSION))?;
    Ok(ExitCode::SUCCESS)
}

/// The last part of a log, for showing with an error.
pub fn tail(path: &std::path::Path, most_lines: usize) -> String {
    const MOST_BYTES: u64 = 16 << 10;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(most_lines)..].join("\n")
}
