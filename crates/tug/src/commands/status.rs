//! `tug status`: the machine, the API and the nodes, as far as each can be seen.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Serialize;
use tug_machine::Machine;

use crate::cli::{NamedOutput, Output};
use crate::commands::start::ClusterRecord;
use crate::commands::{block_on, existing, show};
use crate::preflight;

/// An API that takes longer is as good as gone to whoever asks for its status.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: String,
    /// `Running` or `Stopped`.
    machine: &'static str,
    address: String,
    api_server: ApiServer,
    nodes: Vec<NodeStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiServer {
    url: String,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    name: String,
    ready: bool,
}

/// Exits with 0 when all is well, with 1 when something isn't.
pub fn run(args: NamedOutput) -> Result<ExitCode> {
    preflight::require_root("status")?;
    let machine = existing(&args.cluster)?;
    let status = block_on(look(&machine))?;
    let well = status.api_server.ready && !status.nodes.is_empty() && status.nodes.iter().all(|node| node.ready);
    if args.output == Output::Json {
        show(serde_json::to_string_pretty(&status)?)?;
    } else {
        show(text(&status))?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(machine: &Machine) -> Result<Status> {
    let port = ClusterRecord::load(machine)?.api_port;
    let running = machine.pid().is_some();
    let asked = if running { nodes(machine).await } else { Ok(Vec::new()) };
    let error = asked.as_ref().err().map(|error| format!("{error:#}"));
    Ok(Status {
        name: machine.name.clone(),
        machine: if running { "Running" } else { "Stopped" },
        address: machine.address.to_string(),
        api_server: ApiServer { url: format!("https://127.0.0.1:{port}"), ready: running && asked.is_ok(), error },
        nodes: asked.unwrap_or_default(),
    })
}

async fn nodes(machine: &Machine) -> Result<Vec<NodeStatus>> {
    crate::server::install_crypto();
    let path = machine.paths().data().join("server/admin.kubeconfig");
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // Go's programs, kubectl among them, never ask a proxy for what is on the loopback.
    config.proxy_url = None;
    let client = kube::Client::try_from(config)?;
    let listing = Api::<Node>::all(client);
    let params = ListParams::default();
    let nodes = tokio::time::timeout(PATIENCE, listing.list(&params)).await.context("the API doesn't answer")??;
    Ok(nodes
        .into_iter()
        .map(|node| {
            let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            NodeStatus { name: node.metadata.name.unwrap_or_default(), ready }
        })
        .collect())
}

fn text(status: &Status) -> String {
    let api = match (&status.api_server.error, status.api_server.ready) {
        (Some(error), _) => format!("not ready: {error}"),
        (None, true) => "ready".into(),
        (None, false) => "stopped".into(),
    };
    let mut lines = vec![
        format!("cluster:    {}", status.name),
        format!("machine:    {} ({})", status.machine, status.address),
        format!("api server: {api} ({})", status.api_server.url),
    ];
    let nodes = status.nodes.iter();
    lines.extend(
        nodes.map(|node| format!("node:       {} {}", node.name, if node.ready { "Ready" } else { "NotReady" })),
    );
    lines.join("\n")
}
