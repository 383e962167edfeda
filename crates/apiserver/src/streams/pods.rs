//! Logs, exec, attach and port-forward: which kubelet, and which of its paths.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use tug_api::kinds::core;
use tug_api::{FieldError, FieldErrors, ObjectKey};
use url::form_urlencoded::{Serializer, parse};

use super::Target;
use super::backend::{Backend, dialing_failed};
use crate::objects::Objects;
use crate::status::Status;

const KUBELET_PORT: u16 = 10250;

/// A backend and the path to ask it for, query included.
pub(super) type Location = (Backend, String);

/// Where a container's log is, or `None` while its pod has no node.
pub(super) fn log(objects: &dyn Objects, target: Target<'_>, query: &str) -> Result<Option<Location>, Status> {
    let pod = pod(objects, target)?;
    let asked = Asked::parse(query);
    let errors = log_errors(&asked)?;
    if !errors.is_empty() {
        return Err(Status::invalid_kind("", "PodLogOptions", target.name, errors));
    }
    let container = container(&pod, target.name, asked.get("container"))?;
    let Some(node) = node_name(&pod) else { return Ok(None) };
    let mut passed = Serializer::new(String::new());
    for name in ["follow", "previous", "timestamps"] {
        if asked.flag(name) {
            passed.append_pair(name, "true");
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = asked.get(name) {
            passed.append_pair(name, value);
        }
    }
    let path = format!("/containerLogs/{}/{}/{}", target.namespace, target.name, container);
    Ok(Some((kubelet(objects, node)?, with_query(path, &passed.finish()))))
}

/// Where to exec, attach or forward ports.
pub(super) fn stream(objects: &dyn Objects, target: Target<'_>, query: &str) -> Result<Location, Status> {
    let pod = pod(objects, target)?;
    let asked = Asked::parse(query);
    let mut passed = Serializer::new(String::new());
    let path = if target.subresource == "portforward" {
        asked.all("ports").for_each(|port| {
            passed.append_pair("port", port);
        });
        format!("/portForward/{}/{}", target.namespace, target.name)
    } else {
        let container = container(&pod, target.name, asked.get("container"))?;
        for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
            if asked.flag(ours) {
                passed.append_pair(theirs, "1");
            }
        }
        asked.all("command").for_each(|word| {
            passed.append_pair("command", word);
        });
        format!("/{}/{}/{}/{}", target.subresource, target.namespace, target.name, container)
    };
    let Some(node) = node_name(&pod) else {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    };
    Ok((kubelet(objects, node)?, with_query(path, &passed.finish())))
}

/// The kubelet of a node, by the address that the node tells.
pub(super) fn kubelet(objects: &dyn Objects, node: &str) -> Result<Backend, Status> {
    let kind = &core::NODE;
    let object = objects.get(kind, &ObjectKey::new("", node)).ok_or_else(|| Status::not_found(kind, node))?;
    let object = object.value().map_err(Status::internal)?;
    let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
    // Upstream prefers the host's name; ours need not resolve, addresses always do.
    let of = |kind: &str| {
        let mut of_kind = addresses.clone().filter(|address| address["type"] == *kind);
        of_kind.find_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok())
    };
    let Some(ip) = of("InternalIP").or_else(|| of("ExternalIP")) else {
        return Err(dialing_failed(format!("no preferred addresses found; known addresses: [] of node {node}")));
    };
    let port = &object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    Ok(Backend::Kubelet(SocketAddr::new(ip, port.unwrap_or(KUBELET_PORT))))
}

pub(super) fn with_query(path: String, query: &str) -> String {
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn pod(objects: &dyn Objects, target: Target<'_>) -> Result<Value, Status> {
    let kind = &core::POD;
    let pod = objects.get(kind, &ObjectKey::new(target.namespace, target.name));
    pod.ok_or_else(|| Status::not_found(kind, target.name))?.value().map_err(Status::internal)
}

fn node_name(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
}

/// The container asked for, or the only one.
fn container(pod: &Value, pod_name: &str, asked: Option<&str>) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let (plain, init) = (names("containers"), names("initContainers"));
    if let Some(asked) = asked {
        if [&plain, &init, &names("ephemeralContainers")].into_iter().flatten().any(|name| name == asked) {
            return Ok(asked.into());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    let mut message = format!("a container name must be specified for pod {pod_name}");
    match plain.as_slice() {
        [only] => return Ok(only.clone()),
        [] => {}
        _ => {
            message += &format!(", choose one of: [{}]", plain.join(" "));
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
        }
    }
    Err(Status::bad_request(message))
}

/// Upstream's `ValidatePodLogOptions`.
fn log_errors(asked: &Asked) -> Result<FieldErrors, Status> {
    let mut errors = FieldErrors::new();
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = asked.get(name) else { continue };
        let Ok(number) = text.parse::<i64>() else {
            return Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        };
        if number < least {
            errors.push(FieldError::invalid(name, &json!(number), why));
        }
    }
    if asked.get("sinceSeconds").is_some() && asked.get("sinceTime").is_some() {
        errors.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if let Some(text) = asked.get("sinceTime")
        && text.parse::<jiff::Timestamp>().is_err()
    {
        return Err(Status::bad_request(format!("parsing time {text:?}: cannot parse as RFC 3339")));
    }
    Ok(errors)
}

/// The query's parameters, each maybe several times.
struct Asked(Vec<(String, String)>);

// === impl Asked ===

impl Asked {
    fn parse(query: &str) -> Self {
        Self(parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As upstream converts query values to booleans: present, and neither `false` nor `0`.
    fn flag(&self, name: &str) -> bool {
        self.all(name).next().is_some_and(|value| !matches!(value, "false" | "0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::{Registry, pod as pod_value};

    fn target<'a>(subresource: &'a str, name: &'a str) -> Target<'a> {
        Target { resource: "pods", subresource, namespace: "ns", name, rest: "" }
    }

    fn cluster() -> std::sync::Arc<Registry> {
        Registry::with(&[
            pod_value("ns", "one", json!({"nodeName": "n1", "containers": [{"name": "a"}]})),
            pod_value("ns", "waiting", json!({"containers": [{"name": "a"}]})),
            pod_value(
                "ns",
                "two",
                json!({"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}),
            ),
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "n1"},
                "status": {
                    "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.9.8.7"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                },
            }),
        ])
    }

    #[test]
    fn paths_at_the_kubelet() {
        let registry = cluster();
        let kubelet = Backend::Kubelet("10.9.8.7:10250".parse().expect("an address"));
        let cases = [
            ("log", "one", "", "/containerLogs/ns/one/a"),
            ("log", "two", "container=i", "/containerLogs/ns/two/i"),
            (
                "log",
                "one",
                "follow=true&tailLines=0&timestamps=false&previous=1&limitBytes=10&sinceSeconds=5",
                "/containerLogs/ns/one/a?follow=true&previous=true&sinceSeconds=5&tailLines=0&limitBytes=10",
            ),
            (
                "exec",
                "one",
                "command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&tty=true&container=a",
                "/exec/ns/one/a?input=1&output=1&tty=1&command=sh&command=-c&command=echo+a%26b",
            ),
            ("attach", "two", "container=b&stdout=true&stderr=true", "/attach/ns/two/b?output=1&error=1"),
            ("portforward", "one", "ports=80&ports=443", "/portForward/ns/one?port=80&port=443"),
        ];
        for (subresource, name, query, path) in cases {
            let target = target(subresource, name);
            let location = match subresource {
                "log" => log(&*registry, target, query).map(|location| location.expect("it has a node")),
                _ => stream(&*registry, target, query),
            };
            assert_eq!(location.expect(path), (kubelet, path.to_string()));
        }
        assert_eq!(log(&*registry, target("log", "waiting"), "").expect("nothing said so far"), None);
    }

    #[test]
    fn refusals_in_upstreams_words() {
        let registry = cluster();
        let cases = [
            ("log", "none", "", 404, r#"pods "none" not found"#),
            ("log", "one", "container=x", 400, "container x is not valid for pod one"),
            (
                "log",
                "two",
                "",
                400,
                "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
            ),
            (
                "log",
                "one",
                "tailLines=-1",
                422,
                r#"PodLogOptions "one" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#,
            ),
            (
                "log",
                "one",
                "limitBytes=0",
                422,
                r#"PodLogOptions "one" is invalid: limitBytes: Invalid value: 0: must be greater than 0"#,
            ),
            ("log", "one", "tailLines=many", 400, r#"strconv.ParseInt: parsing "many": invalid syntax"#),
            ("exec", "waiting", "command=sh", 400, "pod waiting does not have a host assigned"),
        ];
        for (subresource, name, query, code, message) in cases {
            let target = target(subresource, name);
            let status = match subresource {
                "log" => log(&*registry, target, query).expect_err(message),
                _ => stream(&*registry, target, query).expect_err(message),
            };
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }
}
