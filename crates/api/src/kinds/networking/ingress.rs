//! HTTP from outside to Services.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, or};
use crate::kinds::check::{invalid, one_of, port_number, required_name};
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, list, some, text};
use crate::names;

pub static INGRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("Ingress")],
    columns: &[
        Column::NAME,
        Column::text("Class", "Which class of controllers serves it."),
        Column::text("Hosts", "Names it answers to."),
        Column::text("Address", "Where it's reached."),
        Column::text("Ports", "Ports on which it's reached."),
        Column::AGE,
    ],
    row,
    validate,
    new_status: || Some(json!({ "loadBalancer": {} })),
    schema: schema_of::<Ingress>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<String> = list(object, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host"))
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    let addresses: Vec<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| match text(ingress, "/ip") {
            "" => text(ingress, "/hostname"),
            ip => ip,
        })
        .collect();
    let ports = if list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        cells::name(object),
        or(text(object, "/spec/ingressClassName"), NONE),
        if hosts.is_empty() { "*".into() } else { cells::first_few(&hosts, 3) },
        addresses.join(",").into(),
        ports.into(),
        age_of(object, now),
    ]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let rules = list(spec, "/rules");
    if rules.is_empty() && some(spec, "/defaultBackend").is_none() {
        errors.push(FieldError::invalid("spec", &Value::Null, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = some(spec, "/defaultBackend") {
        backend(&mut errors, "spec.defaultBackend", default);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        host(&mut errors, &format!("{path}.host"), text(rule, "/host"));
        let Some(http) = some(rule, "/http") else { continue };
        let path = format!("{path}.http.paths");
        if list(http, "/paths").is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        for (n, entry) in list(http, "/paths").iter().enumerate() {
            let path = format!("{path}[{n}]");
            one_path(&mut errors, &path, entry);
            backend(&mut errors, &format!("{path}.backend"), entry.get("backend").unwrap_or(&Value::Null));
        }
    }
    for (i, tls) in list(spec, "/tls").iter().enumerate() {
        for (n, name) in list(tls, "/hosts").iter().enumerate() {
            host(&mut errors, &format!("spec.tls[{i}].hosts[{n}]"), name.as_str().unwrap_or_default());
        }
    }
    errors
}

fn host(errors: &mut FieldErrors, path: &str, host: &str) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, &host.into(), "must be a DNS name, not an IP address"));
    }
    let wrong =
        if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) };
    invalid(errors, path, host, wrong);
}

fn one_path(errors: &mut FieldErrors, path: &str, entry: &Value) {
    let (place, r#type) = (text(entry, "/path"), text(entry, "/pathType"));
    if r#type.is_empty() {
        errors.push(FieldError::required(format!("{path}.pathType"), "pathType must be specified"));
        return;
    }
    one_of(errors, &format!("{path}.pathType"), r#type, &["Exact", "ImplementationSpecific", "Prefix"]);
    let at = format!("{path}.path");
    if place.starts_with('/') {
        if r#type == "ImplementationSpecific" {
            return;
        }
        for wrong in ["//", "/./", "/../", "%2f", "%2F"] {
            if place.contains(wrong) {
                errors.push(FieldError::invalid(at.clone(), &place.into(), &format!("must not contain '{wrong}'")));
            }
        }
        for wrong in ["/..", "/."] {
            if place.ends_with(wrong) {
                errors.push(FieldError::invalid(at.clone(), &place.into(), &format!("cannot end with '{wrong}'")));
            }
        }
    } else if !(r#type == "ImplementationSpecific" && place.is_empty()) {
        errors.push(FieldError::invalid(at, &place.into(), "must be an absolute path"));
    }
}

fn backend(errors: &mut FieldErrors, path: &str, backend: &Value) {
    let Some(service) = some(backend, "/service") else {
        if some(backend, "/resource").is_none() {
            errors.push(FieldError::required(path, "must set `service` or `resource`"));
        }
        return;
    };
    if some(backend, "/resource").is_some() {
        errors.push(FieldError::invalid(path, &"".into(), "cannot set both resource and service backends"));
        return;
    }
    let name = text(service, "/name");
    required_name(errors, &format!("{path}.service.name"), name, names::dns1035_label);
    let (port, number) = (text(service, "/port/name"), count(service, "/port/number"));
    match (port.is_empty(), number) {
        (true, 0) => errors.push(FieldError::required(path, "port name or number is required")),
        (false, 0) => invalid(errors, &format!("{path}.service.port.name"), port, names::port_name(port)),
        (true, number) => port_number(errors, &format!("{path}.service.port.number"), number),
        (false, _) => {
            errors.push(FieldError::invalid(path, &"".into(), "cannot set both port name & port number"));
        }
    }
}
