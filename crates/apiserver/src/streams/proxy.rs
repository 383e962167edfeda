//! `…/proxy/…` of pods, services and nodes: plain HTTP passed through.

use std::net::{IpAddr, SocketAddr};

use tug_api::ObjectKey;
use tug_api::kinds::{core, discovery};

use super::Target;
use super::backend::Backend;
use super::pods::{Location, kubelet, with_query};
use crate::objects::Objects;
use crate::status::Status;

/// A pod by its address: `name`, `name:port` or `http:name:port`.
pub(super) fn pod(objects: &dyn Objects, target: Target<'_>, query: &str) -> Result<Location, Status> {
    let kind = &core::POD;
    let named = Named::parse(target, "pod")?;
    let pod = objects.get(kind, &ObjectKey::new(target.namespace, named.name));
    let pod = pod.ok_or_else(|| Status::not_found(kind, named.name))?.value().map_err(Status::internal)?;
    let Some(ip) = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()) else {
        return Err(Status::bad_request("address not allowed"));
    };
    let port = match named.port {
        "" => {
            let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
            let mut ports = containers.filter_map(|container| container["ports"][0]["containerPort"].as_u64());
            ports.next().and_then(|port| u16::try_from(port).ok()).unwrap_or(80)
        }
        port => port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))?,
    };
    Ok((Backend::Pod(SocketAddr::new(ip, port)), path(target, query)))
}

/// One of a service's endpoints, drawn by lot.
pub(super) fn service(objects: &dyn Objects, target: Target<'_>, query: &str) -> Result<Location, Status> {
    let kind = &core::SERVICE;
    let named = Named::parse(target, "service")?;
    let service = objects.get(kind, &ObjectKey::new(target.namespace, named.name));
    let service = service.ok_or_else(|| Status::not_found(kind, named.name))?.value().map_err(Status::internal)?;
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let port = match (named.port, ports) {
        ("", [only]) => Some(only),
        (asked, ports) => ports.iter().find(|port| {
            let name = port["name"].as_str().unwrap_or_default();
            name == asked || port["port"].as_u64().is_some_and(|port| port.to_string() == asked)
        }),
    };
    let Some(port) = port else {
        let why = format!("no service port {:?} found for service {:?}", named.port, named.name);
        return Err(Status::service_unavailable(why));
    };
    let port_name = port["name"].as_str().unwrap_or_default();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for slice in objects.list(&discovery::ENDPOINT_SLICE, Some(target.namespace)) {
        if slice.meta.labels.get("kubernetes.io/service-name").is_none_or(|service| service != named.name) {
            continue;
        }
        let slice = slice.value().map_err(Status::internal)?;
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports.find(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = number.and_then(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok())
        else {
            continue;
        };
        let ready = slice["endpoints"].as_array().into_iter().flatten();
        let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let ips = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse::<IpAddr>().ok());
        addresses.extend(ips.map(|ip| SocketAddr::new(ip, number)));
    }
    if addresses.is_empty() {
        return Err(Status::service_unavailable(format!("no endpoints available for service {:?}", named.name)));
    }
    let address = addresses[rand::random_range(0..addresses.len())];
    Ok((Backend::Pod(address), path(target, query)))
}

/// The kubelet's own paths, such as `/metrics` or `/pods`.
pub(super) fn node(objects: &dyn Objects, target: Target<'_>, query: &str) -> Result<Location, Status> {
    let (name, port) = match target.name.split(':').collect::<Vec<_>>()[..] {
        [name] => (name, ""),
        ["http" | "https", name] | ["http" | "https", name, ""] => (name, ""),
        [name, port] | ["https", name, port] => (name, port),
        _ => return Err(Status::bad_request(format!("invalid node request {:?}", target.name))),
    };
    let backend = match (kubelet(objects, name)?, port) {
        (backend, "") => backend,
        (Backend::Kubelet(address) | Backend::Pod(address), port) if port == address.port().to_string() => {
            Backend::Kubelet(address)
        }
        _ => return Err(Status::bad_request(format!("port {port} of node {name} is not the kubelet's"))),
    };
    Ok((backend, path(target, query)))
}

/// `scheme:name:port` taken apart.
struct Named<'a> {
    name: &'a str,
    port: &'a str,
}

// === impl Named ===

impl<'a> Named<'a> {
    fn parse(target: Target<'a>, what: &str) -> Result<Self, Status> {
        let (scheme, name, port) = match target.name.split(':').collect::<Vec<_>>()[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return Err(Status::bad_request(format!("invalid {what} request {:?}", target.name))),
        };
        match scheme {
            "" | "http" => Ok(Self { name, port }),
            "https" => Err(Status::bad_request(format!("{what} proxying over https is not served yet"))),
            _ => Err(Status::bad_request(format!("invalid {what} request {:?}", target.name))),
        }
    }
}

fn path(target: Target<'_>, query: &str) -> String {
    let rest = if target.rest.is_empty() { "/" } else { target.rest };
    with_query(rest.to_owned(), query)
}
