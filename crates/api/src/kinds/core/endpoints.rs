//! Addresses behind a Service, in the older form.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{invalid, one_of, optional_name, port_number};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{count, each, fill, list, text};
use crate::names;

pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("Endpoints", "Addresses and ports that are ready."), Column::AGE],
    row,
    default,
    validate,
    schema: schema_of::<Endpoints>,
    acted_on: true,
    create_on_update: true,
    deprecated: "deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), cells::first_few(&ready(object), 3), age_of(object, now)]
}

/// Every address with every port of its subset.
fn ready(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for subset in list(object, "/subsets") {
        let addresses = list(subset, "/addresses").iter().map(|address| text(address, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            found.extend(addresses.map(str::to_owned));
            continue;
        }
        let addresses: Vec<&str> = addresses.collect();
        for port in ports {
            let number = count(port, "/port");
            found.extend(addresses.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{number}"),
                false => format!("{ip}:{number}"),
            }));
        }
    }
    found
}

fn default(object: &mut Value) {
    for subset in each(object, "subsets") {
        for port in each(subset, "ports") {
            fill(port, "protocol", "TCP");
        }
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, subset) in list(object, "/subsets").iter().enumerate() {
        let path = format!("subsets[{i}]");
        let (ready, not_ready) = (list(subset, "/addresses"), list(subset, "/notReadyAddresses"));
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (key, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (n, address) in addresses.iter().enumerate() {
                let path = format!("{path}.{key}[{n}]");
                let ip = text(address, "/ip");
                invalid(&mut errors, &format!("{path}.ip"), ip, names::ip(ip));
                let hostname = text(address, "/hostname");
                optional_name(&mut errors, &format!("{path}.hostname"), hostname, names::dns1123_label);
            }
        }
        let ports = list(subset, "/ports");
        for (n, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{n}]");
            let name = text(port, "/name");
            if ports.len() > 1 && name.is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            optional_name(&mut errors, &format!("{path}.name"), name, names::dns1123_label);
            port_number(&mut errors, &format!("{path}.port"), count(port, "/port"));
            let protocol = text(port, "/protocol");
            one_of(&mut errors, &format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_print_with_their_ports() {
        let object = json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        }]});
        assert_eq!(row(&object, Timestamp::UNIX_EPOCH)[1], "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...");
        assert_eq!(row(&json!({}), Timestamp::UNIX_EPOCH)[1], "<none>");
    }
}
