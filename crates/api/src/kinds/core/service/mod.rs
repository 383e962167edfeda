//! A name and an address for a set of pods.

mod validation;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::kind::{Column, Kind, NameRule};
use crate::kinds::cells::{self, NONE, UNKNOWN, or};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, drop_field, each, fill, fill_zero, list, some, sub, text};

pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::proxy("ServiceProxyOptions"), subresources::status("Service")],
    columns: COLUMNS,
    row,
    default,
    validate: validation::validate,
    prepare,
    selectable: |object| {
        vec![
            ("spec.clusterIP", text(object, "/spec/clusterIP").to_owned()),
            ("spec.type", text(object, "/spec/type").to_owned()),
        ]
    },
    selectable_names: &["spec.clusterIP", "spec.type"],
    new_status: || Some(json!({ "loadBalancer": {} })),
    schema: schema_of::<Service>,
    names: NameRule::DnsLabel,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "How it's reached."),
    Column::text("Cluster-IP", "Its address inside the cluster."),
    Column::text("External-IP", "Its addresses or name outside."),
    Column::text("Port(s)", "Its ports, each with its port on the nodes if it has one."),
    Column::AGE,
    Column::text("Selector", "Which pods it leads to.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (count(port, "/port"), text(port, "/protocol"));
            match count(port, "/nodePort") {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    vec![
        cells::name(object),
        text(object, "/spec/type").into(),
        or(text(object, "/spec/clusterIP"), NONE),
        external(object),
        or(&ports.join(","), NONE),
        age_of(object, now),
        cells::labels(object, "/spec/selector"),
    ]
}

fn external(object: &Value) -> Value {
    let mut addresses: Vec<&str> = list(object, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "/spec/type") {
        "ClusterIP" | "NodePort" => or(&addresses.join(","), NONE),
        "LoadBalancer" => {
            let given = list(object, "/status/loadBalancer/ingress").iter();
            addresses.extend(given.map(|ingress| match text(ingress, "/ip") {
                "" => text(ingress, "/hostname"),
                ip => ip,
            }));
            or(&addresses.join(","), "<pending>")
        }
        "ExternalName" => text(object, "/spec/externalName").into(),
        _ => UNKNOWN.into(),
    }
}

/// Upstream's defaults. Addresses and node ports are the API server's to give.
fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "sessionAffinity", "None");
    if text(spec, "/sessionAffinity") == "None" {
        drop_field(spec, "sessionAffinityConfig");
    }
    if text(spec, "/sessionAffinity") == "ClientIP"
        && let Some(config) = sub(spec, "sessionAffinityConfig").and_then(|config| sub(config, "clientIP"))
    {
        fill(config, "timeoutSeconds", 10800);
    }
    fill(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        fill(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            fill_zero(port, "targetPort", number);
        }
    }
    let r#type = text(spec, "/type").to_owned();
    let external = matches!(r#type.as_str(), "NodePort" | "LoadBalancer");
    if external || (r#type == "ClusterIP" && !list(spec, "/externalIPs").is_empty()) {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if external || r#type == "ClusterIP" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if r#type == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Whether a Service's spec asks for no address of its own.
pub fn is_headless(spec: &Value) -> bool {
    text(spec, "/clusterIP") == "None" || text(spec, "/clusterIPs/0") == "None"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(text(spec, "/type"), "NodePort" | "LoadBalancer")
}

/// What was given to the Service stays with it when an update doesn't say it, and goes when its type has no use for it.
fn prepare(object: &mut Value, old: Option<&Value>) {
    let Some(spec) = sub(object, "spec") else { return };
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        // Who writes one of both means the other too.
        if spec.get("clusterIP") != old.get("clusterIP") && spec.get("clusterIPs") == old.get("clusterIPs") {
            spec["clusterIPs"] = match text(spec, "/clusterIP") {
                "" => json!([]),
                address => json!([address]),
            };
        }
        drop_unused(spec, old);
        keep_given(spec, old);
    }
    // The first of `clusterIPs` is `clusterIP`, whichever of both was written.
    match (text(spec, "/clusterIP").to_owned(), text(spec, "/clusterIPs/0").to_owned()) {
        (one, first) if one.is_empty() && !first.is_empty() && old.is_none() => spec["clusterIP"] = first.into(),
        (one, first) if first.is_empty() && !one.is_empty() => spec["clusterIPs"] = json!([one]),
        _ => {}
    }
    if text(spec, "/type") != "ExternalName" {
        families(spec);
    }
}

/// This cluster has IPv4 only. A headless Service without a selector may still list addresses of both families.
fn families(spec: &mut Value) {
    let selects =
        some(spec, "/selector").is_some_and(|selector| selector.as_object().is_some_and(|map| !map.is_empty()));
    if is_headless(spec) && !selects {
        fill_zero(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
        fill(spec, "ipFamilyPolicy", "RequireDualStack");
    } else {
        fill_zero(spec, "ipFamilies", json!(["IPv4"]));
        fill(spec, "ipFamilyPolicy", "SingleStack");
    }
}

fn keep_given(spec: &mut Value, old: &Value) {
    if text(spec, "/type") != "ExternalName"
        && text(old, "/type") != "ExternalName"
        && text(spec, "/clusterIP").is_empty()
        && list(spec, "/clusterIPs").is_empty()
    {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(given) = old.get(key) {
                fill_zero(spec, key, given.clone());
            }
        }
    }
    if !has_node_ports(spec) || !has_node_ports(old) {
        return;
    }
    let taken: Vec<i64> = list(spec, "/ports").iter().map(|port| count(port, "/nodePort")).collect();
    for port in each(spec, "ports").filter(|port| count(port, "/nodePort") == 0) {
        let twin = list(old, "/ports")
            .iter()
            .find(|held| count(held, "/port") == count(port, "/port") && protocol(held) == protocol(port));
        let given = twin.map_or(0, |held| count(held, "/nodePort"));
        if given != 0 && !taken.contains(&given) {
            port["nodePort"] = given.into();
        }
    }
}

fn protocol(port: &Value) -> &str {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

/// Upstream's `dropTypeDependentFields`: what the user didn't change and the new type doesn't take.
fn drop_unused(spec: &mut Value, old: &Value) {
    let unchanged = |spec: &Value, key: &str| spec.get(key) == old.get(key);
    if text(old, "/type") != "ExternalName" && text(spec, "/type") == "ExternalName" {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(spec, key) {
                drop_field(spec, key);
            }
        }
    }
    if text(old, "/type") == "ExternalName" && text(spec, "/type") != "ExternalName" && unchanged(spec, "externalName")
    {
        drop_field(spec, "externalName");
    }
    if has_node_ports(old) && !has_node_ports(spec) {
        let was: Vec<i64> = list(old, "/ports").iter().map(|port| count(port, "/nodePort")).collect();
        for port in each(spec, "ports").filter(|port| was.contains(&count(port, "/nodePort"))) {
            drop_field(port, "nodePort");
        }
        if unchanged(spec, "externalTrafficPolicy") && list(spec, "/externalIPs").is_empty() {
            drop_field(spec, "externalTrafficPolicy");
        }
    }
    if text(old, "/type") == "LoadBalancer" && text(spec, "/type") != "LoadBalancer" {
        for key in
            ["allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass", "loadBalancerSourceRanges"]
        {
            if unchanged(spec, key) {
                drop_field(spec, key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
