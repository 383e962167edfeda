//! The command line: what `tug --help` shows. Values here become the parts' plain configuration, nothing else.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A container engine and a Kubernetes cluster in one program.
#[derive(Parser)]
#[command(name = "tug", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster on this computer, or start it again
    Start(StartArgs),
    /// Stop a cluster; everything in it is kept
    Stop(Named),
    /// Delete a cluster and all that it left on this computer, but for net.ipv4.ip_forward, which stays on
    Delete(Named),
    /// Show whether a cluster and its parts are well
    Status(NamedOutput),
    /// Print the address of a cluster's node
    Ip(Named),
    /// Run a command, or a shell, on a cluster's node
    Ssh(SshArgs),
    /// Print what a cluster's node has logged
    Logs(LogsArgs),
    /// Print a kubeconfig for a cluster
    Kubeconfig(Named),
    /// Load, pull and list a cluster's images
    Image(ImageArgs),
    /// Run a Kubernetes server, which is also a node, on this host
    Server(ServerArgs),
    /// Print a shell's completion script
    Completion { shell: clap_complete::Shell },
    /// Print the version
    Version,
    /// PID 1 of a machine
    #[command(hide = true, name = "machine-init")]
    MachineInit { name: String },
}

/// Which cluster is meant.
#[derive(Args, Clone)]
pub struct Named {
    /// Name of the cluster
    #[arg(long, default_value = "tug", value_parser = cluster_name)]
    pub name: String,
}

#[derive(Args)]
pub struct NamedOutput {
    #[command(flatten)]
    pub cluster: Named,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub cluster: Named,
    /// Number of nodes; more than one comes with a later release
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1))]
    pub nodes: u32,
    /// Port of 127.0.0.1 that the API answers on; the first free one from 6443 on when not given
    #[arg(long)]
    pub api_port: Option<u16>,
    /// Where to pull a registry's images from first: docker.io=http://host:port (may be repeated); kept until others
    /// are given
    #[arg(long = "registry-mirror", value_name = "REGISTRY=URL", value_parser = mirror)]
    pub registry_mirrors: Vec<Mirror>,
    /// Pull from the registries themselves from now on
    #[arg(long, conflicts_with = "registry_mirrors")]
    pub no_registry_mirror: bool,
}

impl StartArgs {
    /// The mirrors that are asked for; `None` when nothing is said of them.
    pub fn mirrors(&self) -> Option<&[Mirror]> {
        (self.no_registry_mirror || !self.registry_mirrors.is_empty()).then_some(&self.registry_mirrors)
    }
}

#[derive(Args)]
pub struct SshArgs {
    #[command(flatten)]
    pub cluster: Named,
    /// The command; a shell when there is none
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Args)]
pub struct LogsArgs {
    #[command(flatten)]
    pub cluster: Named,
    /// Go on as more is logged
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Subcommand)]
pub enum ImageCommand {
    /// Load images from a `docker save` or OCI archive
    Load {
        #[command(flatten)]
        cluster: Named,
        file: PathBuf,
    },
    /// Pull an image from its registry
    Pull {
        #[command(flatten)]
        cluster: Named,
        reference: String,
    },
    /// List images
    Ls(NamedOutput),
}

/// Flags of `tug server`. The file that `--config` names has the same names; flags win.
#[derive(Args, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct ServerArgs {
    /// File to read settings from [default: /etc/tug/config.yaml, where it exists]
    #[arg(long)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where state is kept [default: /var/lib/tug]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Address and port that the API answers on [default: 0.0.0.0:6443]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Name of this node [default: the host name]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Address that other nodes and pods reach this node at [default: that of the default route]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_ip: Option<IpAddr>,
    /// More names and addresses for the API's certificate (may be repeated)
    #[arg(long = "tls-san", value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "tls-san")]
    pub tls_sans: Vec<String>,
    /// Range of Service addresses [default: 10.96.0.0/12]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<Ipv4Net>,
    /// Range of pod addresses, a /24 of it for each node [default: 10.244.0.0/16]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_cidr: Option<Ipv4Net>,
    /// Where to pull a registry's images from first: docker.io=http://host:port (may be repeated)
    #[arg(long = "registry-mirror", value_name = "REGISTRY=URL", value_parser = mirror)]
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "registry-mirror")]
    pub registry_mirrors: Vec<Mirror>,
    /// Network namespace from which registries and DNS resolvers are dialed
    #[arg(long, hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_netns: Option<PathBuf>,
    /// Mount namespace in whose files registries' names are looked up; goes with --dial-netns
    #[arg(long, hide = true, requires = "dial_netns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_mntns: Option<PathBuf>,
}

/// `docker.io=http://127.0.0.1:5000`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mirror {
    pub registry: String,
    pub url: String,
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        mirror(&text)
    }
}

impl From<Mirror> for String {
    fn from(mirror: Mirror) -> Self {
        format!("{}={}", mirror.registry, mirror.url)
    }
}

fn mirror(text: &str) -> Result<Mirror, String> {
    let (registry, url) = text.split_once('=').ok_or("expected REGISTRY=URL, such as docker.io=http://host:5000")?;
    if registry.is_empty() || !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err("expected REGISTRY=URL, such as docker.io=http://host:5000".into());
    }
    Ok(Mirror { registry: registry.into(), url: url.trim_end_matches('/').into() })
}

/// A cluster's name is also its machine's host name and its kubeconfig context.
fn cluster_name(text: &str) -> Result<String, String> {
    let label = tug_api::names::dns1123_label(text);
    if !label.is_empty() {
        return Err(label.join("; "));
    }
    // The name is part of cgroups' and sockets' paths.
    if text.len() > 40 {
        return Err("must be no more than 40 bytes".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mirrors_name_a_registry_and_a_url() {
        let parsed = mirror("docker.io=http://127.0.0.1:5000/").expect("well-formed");
        assert_eq!(parsed, Mirror { registry: "docker.io".into(), url: "http://127.0.0.1:5000".into() });
        for wrong in ["docker.io", "=http://x", "docker.io=ftp://x", ""] {
            assert!(mirror(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_configuration_file_has_the_flags_names() {
        let file = "node-name: a\nregistry-mirror: [docker.io=http://h:5000]\ntls-san: [x]\n";
        let args: ServerArgs = serde_norway::from_str(file).expect("well-formed");
        assert_eq!(args.node_name.as_deref(), Some("a"));
        assert_eq!(args.registry_mirrors[0].url, "http://h:5000");
        assert!(serde_norway::from_str::<ServerArgs>("nodename: a\n").is_err());
    }
}
