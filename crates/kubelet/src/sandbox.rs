//! A pod's sandbox: its namespaces, cgroup, address, and the files that all its containers share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use crate::fields::Addresses;
use crate::files::{self, Names};
use crate::kubelet::Context;
use crate::pod;
use crate::qos::Qos;
use crate::resolv::ResolvConf;
use crate::runtime::{HostPort, Protocol, Result, RuntimeError, Sandbox, SandboxSpec};
use crate::{labels, resources};

/// Makes the pod's sandbox, or takes back the one that is there.
pub async fn ensure(context: &Context, pod: &Pod) -> Result<Sandbox> {
    let sandbox = context.runtime.run_sandbox(spec(context, pod), host_ports(pod)).await?;
    let addresses = addresses(context, pod, &sandbox);
    let written = write_files(context, pod, &addresses).await;
    written.map_err(|error| RuntimeError::Failed(format!("writing the pod's files: {error}")))?;
    Ok(sandbox)
}

pub fn addresses(context: &Context, pod: &Pod, sandbox: &Sandbox) -> Addresses {
    let host = context.config.node_ip;
    let own = sandbox.address.or_else(|| pod.spec.as_ref().filter(|spec| pod::host_network(spec)).map(|_| host));
    Addresses { host: host.to_string(), pod: own.iter().map(IpAddr::to_string).collect() }
}

fn spec(context: &Context, pod: &Pod) -> SandboxSpec {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = pod::host_network(&spec);
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone()).unwrap_or_default();
    let sysctls: BTreeMap<String, String> =
        sysctls.into_iter().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value)).collect();
    SandboxSpec {
        // One sandbox a pod: asking again finds it.
        id: pod::uid(pod).to_owned(),
        hostname: hostname(context, pod),
        host_network,
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_pid: spec.share_process_namespace == Some(true),
        sysctls,
        cgroup: Qos::of(&spec).cgroup(pod::uid(pod)),
        limits: resources::pod_limits(&spec),
        labels: labels::of_pod(pod),
        ..SandboxSpec::default()
    }
}

fn hostname(context: &Context, pod: &Pod) -> String {
    if pod.spec.as_ref().is_some_and(pod::host_network) {
        return context.config.node_name.clone();
    }
    Names::of(pod, &context.config.cluster_domain).kernel_hostname(pod)
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = pod.spec.as_ref().filter(|spec| !pod::host_network(spec)) else { return Vec::new() };
    let sidecars = pod::init_containers(spec).iter().filter(|container| pod::is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                host_ip: port
                    .host_ip
                    .as_deref()
                    .and_then(|ip| ip.parse().ok())
                    .filter(|ip: &IpAddr| !ip.is_unspecified()),
                host_port: port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?,
                container_port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

async fn write_files(context: &Context, pod: &Pod, addresses: &Addresses) -> std::io::Result<()> {
    let config = &context.config;
    let directory = pod::directory(&config.data_dir, pod::uid(pod));
    let spec = pod.spec.clone().unwrap_or_default();
    let aliases = spec.host_aliases.clone().unwrap_or_default();
    let hosts = if pod::host_network(&spec) {
        files::host_network_hosts(&context.node_hosts, &aliases)
    } else {
        files::hosts(&addresses.pod, &Names::of(pod, &config.cluster_domain), &aliases)
    };
    let cluster_dns: Vec<String> = config.cluster_dns.iter().map(IpAddr::to_string).collect();
    let resolv = ResolvConf::of_pod(pod, &context.resolv_conf, &cluster_dns, &config.cluster_domain);
    tokio::fs::create_dir_all(&directory).await?;
    tokio::fs::create_dir_all(pod::log_directory(&config.pod_logs, pod)).await?;
    write_if_new(&directory.join("etc-hosts"), &hosts).await?;
    write_if_new(&directory.join("hostname"), &format!("{}\n", hostname(context, pod))).await?;
    write_if_new(&directory.join("resolv.conf"), &resolv.render()).await
}

/// Containers have these files mounted and may have changed them: they are written once.
async fn write_if_new(path: &Path, text: &str) -> std::io::Result<()> {
    if tokio::fs::try_exists(path).await? {
        return Ok(());
    }
    tokio::fs::write(path, text).await
}
