//! `tug start`: a machine with a server in it, on this host's network, in the user's kubeconfig.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipnet::Ipv4Net;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use tug_client::kubeconfig;
use tug_machine::{Machine, Paths, Program};
use tug_network::hosts::MachineBridge;
use tug_network::links::{self, Connection};

use crate::caller::caller;
use crate::cli::{Mirror, ServerArgs, StartArgs};
use crate::commands::show;
use crate::config::{API_PORT, default_cluster_cidr, default_service_cidr};
use crate::notify::{self, Message};
use crate::preflight;

/// The bridge that all machines of this host share.
pub const BRIDGE: &str = "tug0";
/// Where the machine's server tells how far it is, as the machine sees it and as a name in its socket directory.
const NOTIFY_SOCKET: &str = "notify";
/// A server that isn't ready by then has failed, whatever it still says.
const PATIENCE: Duration = Duration::from_secs(120);
/// Passed on to the machine, so that its engine reaches registries as the user does.
const PROXY_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TUG_LOG",
];

/// What `start` decided for a cluster, kept beside its machine for its whole life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Port of the host's 127.0.0.1.
    pub api_port: u16,
    #[serde(default)]
    pub registry_mirrors: Vec<Mirror>,
}

impl ClusterRecord {
    fn path(paths: &Paths) -> std::path::PathBuf {
        paths.state.join("cluster.json")
    }

    pub fn load(machine: &Machine) -> Result<Self> {
        let path = Self::path(&machine.paths());
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    }

    fn keeps_port(&self, args: &StartArgs) -> Result<()> {
        if args.api_port.is_some_and(|port| port != self.api_port) {
            let name = &args.cluster.name;
            bail!("cluster {name:?} has port {} for its life; delete it to choose another", self.api_port);
        }
        Ok(())
    }

    fn save(&self, paths: &Paths) -> Result<()> {
        fs::create_dir_all(&paths.state)?;
        let path = Self::path(paths);
        fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| format!("writing {}", path.display()))
    }
}

pub fn run(args: StartArgs) -> Result<ExitCode> {
    preflight::require_root("start")?;
    let begun = Instant::now();
    let progress = Progress::new();
    let name = &args.cluster.name;
    let existing = tug_machine::load(name)?;
    if let Some(machine) = existing.as_ref().filter(|machine| machine.pid().is_some()) {
        let record = ClusterRecord::load(machine)?;
        record.keeps_port(&args)?;
        if args.mirrors().is_some_and(|mirrors| mirrors != record.registry_mirrors) {
            bail!(
                "cluster {name:?} runs with other registry mirrors; to change them: tug stop --name {name}, then tug \
                 start with them"
            );
        }
        // A firewall that was begun or loaded anew since has lost our rules.
        let bridge = machine_bridge()?;
        bridge.ensure(mtu())?;
        bridge.forward_local(record.api_port, (machine.address, API_PORT))?;
        let context = write_kubeconfig(machine, &record)?;
        progress.done(&format!("Cluster {name:?} is running already"));
        say_next(machine, &record, &context);
        return Ok(ExitCode::SUCCESS);
    }
    let fresh = existing.is_none();
    if fresh {
        preflight::require_kernel()?;
    }
    let mut plan = plan(&args, existing)?;
    warn_of_hidden_networks();
    let context = match make(&mut plan, &progress) {
        Ok(context) => context,
        Err(error) => {
            progress.clear();
            undo(&plan.machine, fresh);
            return Err(error);
        }
    };
    let Plan { machine, record, .. } = plan;
    progress.done(&format!("Cluster {name:?} is ready after {:.1} s", begun.elapsed().as_secs_f64()));
    say_next(&machine, &record, &context);
    Ok(ExitCode::SUCCESS)
}

/// A start that failed leaves what was there before: nothing, or a stopped cluster. Its log stays readable on the screen.
fn undo(machine: &Machine, fresh: bool) {
    let result = if fresh { super::stop::delete_machine(machine) } else { super::stop::stop_machine(machine) };
    if let Err(error) = result {
        eprintln!("Warning: cleaning up: {error:#}");
    }
}

/// All that is decided before anything is made.
struct Plan {
    bridge: MachineBridge,
    machine: Machine,
    record: ClusterRecord,
}

fn plan(args: &StartArgs, existing: Option<Machine>) -> Result<Plan> {
    let bridge = machine_bridge()?;
    let others = tug_machine::list()?;
    let mut record = match &existing {
        Some(machine) => {
            let record = ClusterRecord::load(machine)?;
            record.keeps_port(args)?;
            port_is_free(record.api_port).with_context(|| {
                format!("cluster {:?} has that port for its life; end what uses it now", machine.name)
            })?;
            record
        }
        None => ClusterRecord { api_port: choose_port(args.api_port, &bridge, &others)?, registry_mirrors: Vec::new() },
    };
    if let Some(mirrors) = args.mirrors() {
        record.registry_mirrors = mirrors.to_vec();
    }
    let machine = Machine {
        name: args.cluster.name.clone(),
        address: match &existing {
            Some(machine) => machine.address,
            None => free_address(&bridge.address, &others)?,
        },
        gateway: bridge.address,
        bridge: BRIDGE.into(),
        program: server_program(),
        made_directories: existing.map(|m| m.made_directories).unwrap_or_default(),
    };
    Ok(Plan { bridge, machine, record })
}

/// Returns the kubeconfig that knows of the cluster now.
fn make(plan: &mut Plan, progress: &Progress) -> Result<String> {
    let Plan { bridge, machine, record } = plan;
    let (paths, address) = (machine.paths(), machine.address);
    preflight::require_space(&paths.state)?;
    preflight::require_overlay(&paths.data())?;
    progress.step("Connecting");
    bridge.ensure(mtu())?;
    record.save(&paths)?;
    write_config(machine, record)?;

    progress.step("Starting the machine");
    fs::create_dir_all(paths.sockets())?;
    let socket = paths.sockets().join(NOTIFY_SOCKET);
    remove_stale(&socket)?;
    let listener = UnixDatagram::bind(&socket).with_context(|| format!("making {}", socket.display()))?;
    let launched = tug_machine::launch(machine)?;
    let pid = launched.pid;
    let netns = fs::File::open(format!("/proc/{pid}/ns/net")).context("opening the machine's network namespace")?;
    let connection = Connection {
        link: &machine.host_link(),
        bridge: BRIDGE,
        address: Ipv4Net::new(address, bridge.address.prefix_len())?,
        gateway: bridge.address.addr(),
        mtu: mtu(),
    };
    // The kernel takes its time over the pair of a machine whose PID 1 was killed.
    links::delete(connection.link)?;
    links::connect(&connection, &netns)?;
    drop(netns);
    launched.proceed()?;

    wait_ready(machine, pid, &listener, progress)?;
    bridge.forward_local(record.api_port, (address, API_PORT))?;
    write_kubeconfig(machine, record)
}

/// Services and pods lie in a machine of its own, so their ranges may be this host's too: but then whoever has those
/// addresses here is out of the cluster's sight.
fn warn_of_hidden_networks() {
    for (range, whose) in [(default_service_cidr(), "Services"), (default_cluster_cidr(), "pods")] {
        for net in links::overlapping(range).unwrap_or_default() {
            eprintln!("Warning: this host reaches {net}, which pods can't: it lies in {range}, the range of {whose}");
        }
    }
}

/// The machines' network: as it was chosen when the first machine was made, else a subnet that nothing here uses.
pub fn machine_bridge() -> Result<MachineBridge> {
    if let Some(machine) = tug_machine::list()?.first() {
        return Ok(MachineBridge { bridge: machine.bridge.clone(), address: machine.gateway });
    }
    // Ranges that neither Docker (172.17-31, 192.168) nor Kubernetes' defaults (10.96/12, 10.244/16) use.
    let candidates = (0..64).map(|n| Ipv4Net::new(Ipv4Addr::new(10, 89, n, 0), 24).expect("24 bits are a prefix"));
    let Some(subnet) = links::free_subnet(candidates)? else {
        bail!("no subnet of 10.89.0.0/18 is free for machines: routes or addresses of this host cover them all");
    };
    let first = subnet.hosts().next().expect("a /24 has hosts");
    Ok(MachineBridge { bridge: BRIDGE.into(), address: Ipv4Net::new(first, 24)? })
}

fn free_address(subnet: &Ipv4Net, machines: &[Machine]) -> Result<Ipv4Addr> {
    let taken = |ip: &Ipv4Addr| *ip == subnet.addr() || machines.iter().any(|machine| machine.address == *ip);
    subnet.hosts().find(|ip| !taken(ip)).context("all addresses of the machines' network are taken")
}

/// The port asked for, or the first free one from 6443 on that no other cluster has.
fn choose_port(asked: Option<u16>, bridge: &MachineBridge, machines: &[Machine]) -> Result<u16> {
    let mut kept = bridge.forwarded().unwrap_or_default();
    kept.extend(machines.iter().filter_map(|machine| Some(ClusterRecord::load(machine).ok()?.api_port)));
    if let Some(port) = asked {
        if kept.contains(&port) {
            bail!("port {port} of 127.0.0.1 belongs to another cluster");
        }
        return port_is_free(port).map(|()| port);
    }
    (API_PORT..=u16::MAX)
        .find(|port| !kept.contains(port) && port_is_free(*port).is_ok())
        .context("no port of 127.0.0.1 from 6443 on is free")
}

/// Nothing else may be listening: it would see no more of its connections.
fn port_is_free(port: u16) -> Result<()> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bound.map(drop).with_context(|| format!("port {port} of 127.0.0.1 can't be had"))
}

fn server_program() -> Program {
    let mut env: std::collections::BTreeMap<_, _> =
        PROXY_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
    env.insert("NOTIFY_SOCKET".into(), format!("/run/tug/{NOTIFY_SOCKET}"));
    Program { args: vec!["server".into()], env }
}

/// The server in the machine reads `/etc/tug/config.yaml` as any server does.
fn write_config(machine: &Machine, record: &ClusterRecord) -> Result<()> {
    let settings = ServerArgs {
        node_name: Some(machine.name.clone()),
        node_ip: Some(machine.address.into()),
        tls_sans: vec!["127.0.0.1".into(), "localhost".into()],
        registry_mirrors: record.registry_mirrors.clone(),
        dial_netns: Some("/run/tug/host-netns".into()),
        dial_mntns: Some("/run/tug/host-mntns".into()),
        ..ServerArgs::default()
    };
    let directory = machine.paths().config();
    fs::create_dir_all(&directory)?;
    let path = directory.join("config.yaml");
    fs::write(&path, serde_norway::to_string(&settings)?).with_context(|| format!("writing {}", path.display()))
}

fn remove_stale(socket: &Path) -> Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", socket.display()))
        }
        _ => Ok(()),
    }
}

/// Follows what the server says until it is ready, the machine has ended, or the time is over.
fn wait_ready(machine: &Machine, pid: i32, listener: &UnixDatagram, progress: &Progress) -> Result<()> {
    let pid = Pid::from_raw(pid).context("the machine's init has no number")?;
    let init = pidfd_open(pid, PidfdFlags::empty()).context("watching the machine's init")?;
    let failed = |what: &str| {
        let log = machine.paths().log();
        anyhow::anyhow!("{what}; the last of {}:\n{}", log.display(), show::tail(&log, 15))
    };
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed("the server isn't ready in time"));
        }
        let mut watched =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX))?;
        let ended = watched[1].any().unwrap_or(false);
        let mut buffer = [0; 4096];
        while let Ok(length) = listener.recv(&mut buffer) {
            for message in notify::parse(&String::from_utf8_lossy(&buffer[..length])) {
                match message {
                    Message::Status(text) => {
                        progress.step(&text);
                        last = text;
                    }
                    Message::Ready => return Ok(()),
                    Message::Failed => bail!("the server can't start: {last}"),
                }
            }
        }
        if ended {
            return Err(failed("the machine has ended"));
        }
    }
}

/// Merges the context and makes it current. Returns the file.
fn write_kubeconfig(machine: &Machine, record: &ClusterRecord) -> Result<String> {
    let path = machine.paths().data().join("server/admin.kubeconfig");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let admin: serde_norway::Value = serde_norway::from_str(&text)?;
    let pem = |section: &str, entry: &str, field: &str| -> Result<String> {
        use base64::Engine;
        let text = admin[section][0][entry][field].as_str().context("the server's kubeconfig lacks certificates")?;
        Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?)
    };
    let entry = kubeconfig::Entry {
        name: machine.name.clone(),
        server: format!("https://127.0.0.1:{}", record.api_port),
        ca_pem: pem("clusters", "cluster", "certificate-authority-data")?,
        client_cert_pem: pem("users", "user", "client-certificate-data")?,
        client_key_pem: pem("users", "user", "client-key-data")?,
    };
    let person = caller();
    let paths = kubeconfig::locate(std::env::var("KUBECONFIG").ok().as_deref(), &person.home);
    let written = kubeconfig::merge(&paths, &entry, person.owner).context("writing the kubeconfig")?;
    Ok(written.display().to_string())
}

fn say_next(machine: &Machine, record: &ClusterRecord, kubeconfig: &str) {
    println!();
    println!("  Node:        {} ({})", machine.name, machine.address);
    println!("  API:         https://127.0.0.1:{}", record.api_port);
    println!("  Kubeconfig:  context {:?} in {kubeconfig}, now current", machine.name);
    println!();
    println!("Try:");
    println!("  kubectl get nodes");
    println!("  kubectl create deployment hello --image=nginx");
    println!("  kubectl expose deployment hello --port=80 --type=NodePort");
    println!(
        "  curl http://{}:$(kubectl get service hello -o jsonpath='{{.spec.ports[0].nodePort}}')",
        machine.address
    );
}

/// The default route's, so that machines' packets needn't be cut up.
fn mtu() -> u32 {
    const ETHERNET: u32 = 1500;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (link, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| link.to_owned())
    });
    default
        .and_then(|link| fs::read_to_string(format!("/sys/class/net/{link}/mtu")).ok()?.trim().parse().ok())
        .map_or(ETHERNET, |mtu: u32| mtu.min(ETHERNET))
}

/// One line that changes on a terminal, a line a step elsewhere.
struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    fn new() -> Self {
        let plain = !io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        if plain {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            bar.set_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(80));
        }
        Self { bar, plain }
    }

    fn step(&self, text: &str) {
        if self.plain {
            eprintln!("{text}");
        }
        self.bar.set_message(text.to_owned());
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn done(&self, text: &str) {
        self.clear();
        println!("{text}");
    }
}
