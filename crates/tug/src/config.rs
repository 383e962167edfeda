//! `tug server`'s settings: the flags over the file over the defaults.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::cli::{Mirror, ServerArgs};

pub const DEFAULT_FILE: &str = "/etc/tug/config.yaml";
/// Of kubeadm.
pub const API_PORT: u16 = 6443;

/// Every setting decided.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub node_name: String,
    pub node_ip: Ipv4Addr,
    pub tls_sans: Vec<String>,
    pub service_cidr: Ipv4Net,
    pub cluster_cidr: Ipv4Net,
    pub registry_mirrors: Vec<Mirror>,
    pub dial_netns: Option<PathBuf>,
    pub dial_mntns: Option<PathBuf>,
}

impl ServerConfig {
    /// # Errors
    /// When the file can't be read, has unknown names, or when a setting makes no sense.
    pub fn decide(flags: ServerArgs) -> Result<Self> {
        let file = read_file(flags.config.as_deref())?;
        let node_ip = match flags.node_ip.or(file.node_ip) {
            Some(IpAddr::V4(ip)) => ip,
            Some(IpAddr::V6(ip)) => bail!("--node-ip {ip}: only IPv4 is supported"),
            None => default_route_address().context("finding this node's address; give it with --node-ip")?,
        };
        let node_name = match flags.node_name.or(file.node_name) {
            Some(name) => name,
            None => nix::unistd::gethostname()?.to_string_lossy().to_ascii_lowercase(),
        };
        let wrong = tug_api::names::dns1123_subdomain(&node_name);
        if !wrong.is_empty() {
            bail!("node name {node_name:?}: {}", wrong.join("; "));
        }
        let either = |flags: Vec<_>, file: Vec<_>| if flags.is_empty() { file } else { flags };
        let config = Self {
            data_dir: flags.data_dir.or(file.data_dir).unwrap_or_else(|| "/var/lib/tug".into()),
            listen: flags.listen.or(file.listen).unwrap_or((Ipv4Addr::UNSPECIFIED, API_PORT).into()),
            node_name,
            node_ip,
            tls_sans: if flags.tls_sans.is_empty() { file.tls_sans } else { flags.tls_sans },
            service_cidr: flags.service_cidr.or(file.service_cidr).unwrap_or_else(default_service_cidr),
            cluster_cidr: flags.cluster_cidr.or(file.cluster_cidr).unwrap_or_else(default_cluster_cidr),
            registry_mirrors: either(flags.registry_mirrors, file.registry_mirrors),
            dial_netns: flags.dial_netns.or(file.dial_netns),
            dial_mntns: flags.dial_mntns.or(file.dial_mntns),
        };
        config.check()
    }

    fn check(self) -> Result<Self> {
        if !self.data_dir.is_absolute() {
            bail!("--data-dir {} must be an absolute path", self.data_dir.display());
        }
        if self.listen.port() == 0 {
            bail!("--listen {}: the port must be between 1 and 65535, inclusive", self.listen);
        }
        if self.service_cidr.prefix_len() > 24 {
            bail!("--service-cidr {} is too small: a /24 at least", self.service_cidr);
        }
        if self.cluster_cidr.prefix_len() > 24 {
            bail!("--cluster-cidr {} is too small: each node needs a /24 of it", self.cluster_cidr);
        }
        if self.service_cidr.contains(&self.cluster_cidr) || self.cluster_cidr.contains(&self.service_cidr) {
            bail!("--service-cidr {} and --cluster-cidr {} overlap", self.service_cidr, self.cluster_cidr);
        }
        Ok(self)
    }

    /// Where the API answers somebody on this host: at the node's address if it listens on every one.
    pub fn reached_at(&self) -> SocketAddr {
        let ip = if self.listen.ip().is_unspecified() { self.node_ip.into() } else { self.listen.ip() };
        SocketAddr::new(ip, self.listen.port())
    }

    /// The cluster's DNS server: kubeadm's tenth address of the Services.
    pub fn cluster_dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 10)
    }
}

/// Of kubeadm.
pub fn default_service_cidr() -> Ipv4Net {
    net([10, 96, 0, 0], 12)
}

/// Of flannel and of most who follow it.
pub fn default_cluster_cidr() -> Ipv4Net {
    net([10, 244, 0, 0], 16)
}

fn net(address: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new(address.into(), prefix).expect("a constant prefix of at most 32")
}

fn read_file(named: Option<&Path>) -> Result<ServerArgs> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(ServerArgs::default()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    serde_norway::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// The address that the kernel would send from. Connecting a UDP socket sends nothing.
fn default_route_address() -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(ip) => bail!("the default route's address {ip} isn't IPv4"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> ServerArgs {
        let mut args: ServerArgs = serde_norway::from_str(text).expect("well-formed");
        args.config = Some("/dev/null".into());
        args
    }

    #[test]
    fn defaults_are_kubeadms() {
        let config = ServerConfig::decide(flags("node-ip: 192.0.2.7\nnode-name: a\n")).expect("valid");
        assert_eq!(config.listen.port(), 6443);
        assert_eq!(config.cluster_dns().to_string(), "10.96.0.10");
        assert_eq!(config.cluster_cidr.to_string(), "10.244.0.0/16");
    }

    #[test]
    fn the_administrators_door_is_where_the_api_listens() {
        for (listen, expected) in [("0.0.0.0:6443", "192.0.2.7:6443"), ("127.0.0.1:7443", "127.0.0.1:7443")] {
            let config = ServerConfig::decide(flags(&format!("node-ip: 192.0.2.7\nnode-name: a\nlisten: {listen}\n")));
            assert_eq!(config.expect("valid").reached_at().to_string(), expected);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let cases = [
            ("listen: 127.0.0.1:0\n", "between 1 and 65535"),
            ("data-dir: here\n", "--data-dir here must be an absolute path"),
            ("service-cidr: 10.244.1.0/24\n", "overlap"),
            ("cluster-cidr: 10.1.1.0/25\n", "each node needs a /24"),
        ];
        for (text, expected) in cases {
            let error = ServerConfig::decide(flags(&format!("node-ip: 192.0.2.7\nnode-name: a\n{text}")));
            let error = error.expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
