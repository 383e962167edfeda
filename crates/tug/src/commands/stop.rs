//! `tug stop` and `tug delete`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tug_client::kubeconfig;
use tug_machine::{Machine, Paths};
use tug_network::links;

use crate::caller::caller;
use crate::cli::Named;
use crate::commands::existing;
use crate::commands::start::{ClusterRecord, machine_bridge};
use crate::preflight;

pub fn stop(args: Named) -> Result<ExitCode> {
    preflight::require_root("stop")?;
    stop_machine(&existing(&args)?)?;
    println!("Cluster {:?} is stopped; tug start brings it back as it was", args.name);
    Ok(ExitCode::SUCCESS)
}

pub fn delete(args: Named) -> Result<ExitCode> {
    preflight::require_root("delete")?;
    match tug_machine::load(&args.name)? {
        Some(machine) => delete_machine(&machine)?,
        None if Paths::of(&args.name).in_use() => {
            tug_machine::remove_unrecorded(&args.name)?;
            remove_unused_bridge()?;
        }
        None => {
            println!("There is no cluster {:?}", args.name);
            return Ok(ExitCode::SUCCESS);
        }
    }
    let paths = kubeconfig::locate(std::env::var("KUBECONFIG").ok().as_deref(), &caller().home);
    kubeconfig::remove(&paths, &args.name).context("taking the context out of the kubeconfig")?;
    println!("Cluster {:?} is deleted", args.name);
    Ok(ExitCode::SUCCESS)
}

pub fn stop_machine(machine: &Machine) -> Result<()> {
    disconnect(machine)?;
    Ok(tug_machine::stop(machine)?)
}

/// The machine and, with the last one, the bridge.
pub fn delete_machine(machine: &Machine) -> Result<()> {
    disconnect(machine)?;
    tug_machine::remove(machine)?;
    remove_unused_bridge()
}

fn remove_unused_bridge() -> Result<()> {
    if tug_machine::list()?.is_empty() {
        machine_bridge()?.remove()?;
    }
    Ok(())
}

fn disconnect(machine: &Machine) -> Result<()> {
    // A start that failed early has neither a record nor a bridge.
    if let Ok(record) = ClusterRecord::load(machine)
        && links::exists(&machine.bridge)?
    {
        machine_bridge()?.forward_local_no_more(record.api_port)?;
    }
    // The pair would go with the machine's namespace, but later than its name may be needed again.
    Ok(links::delete(&machine.host_link())?)
}
