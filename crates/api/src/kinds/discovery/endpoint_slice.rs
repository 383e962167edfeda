//! Addresses behind a Service.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, UNSET};
use crate::kinds::check::{invalid, one_of, optional_name, unchanged};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{each, fill, int, list, text};
use crate::names;

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("AddressType", "Sort of its addresses."),
        Column::text("Ports", "Ports of its endpoints."),
        Column::text("Endpoints", "Addresses of its endpoints."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    schema: schema_of::<EndpointSlice>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "/ports")
        .iter()
        .map(|port| int(port, "/port").map_or("*".to_owned(), |number| number.to_string()))
        .collect();
    let addresses: Vec<String> = list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let few = |items: &[String]| if items.is_empty() { UNSET.into() } else { cells::first_few(items, 3) };
    vec![cells::name(object), text(object, "/addressType").into(), few(&ports), few(&addresses), age_of(object, now)]
}

fn default(object: &mut Value) {
    for port in each(object, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
    for endpoint in each(object, "endpoints") {
        fill(endpoint, "conditions", json!({}));
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let r#type = text(object, "/addressType");
    one_of(&mut errors, "addressType", r#type, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = list(object, "/endpoints");
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), 1000));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{i}]");
        let addresses = list(endpoint, "/addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(format!("{path}.addresses"), "must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(format!("{path}.addresses"), addresses.len(), 100));
        }
        for (n, address) in addresses.iter().enumerate() {
            let address = address.as_str().unwrap_or_default();
            let path = format!("{path}.addresses[{n}]");
            let wrong = if r#type == "FQDN" { names::dns1123_subdomain(address) } else { names::ip(address) };
            let sound = wrong.is_empty();
            invalid(&mut errors, &path, address, wrong);
            let family = match r#type {
                "IPv4" if address.contains(':') => "must be an IPv4 address",
                "IPv6" if !address.contains(':') => "must be an IPv6 address",
                _ => continue,
            };
            if sound {
                errors.push(FieldError::invalid(path, &address.into(), family));
            }
        }
        let hostname = text(endpoint, "/hostname");
        optional_name(&mut errors, &format!("{path}.hostname"), hostname, names::dns1123_label);
    }
    let ports = list(object, "/ports");
    for (i, port) in ports.iter().enumerate() {
        let path = format!("ports[{i}]");
        let name = text(port, "/name");
        optional_name(&mut errors, &format!("{path}.name"), name, names::dns1123_label);
        if ports.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        let protocol = text(port, "/protocol");
        one_of(&mut errors, &format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    if let Some(old) = old {
        unchanged(&mut errors, "addressType", object, old, "/addressType");
    }
    errors
}
