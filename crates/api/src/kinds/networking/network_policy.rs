//! Who may talk to whom.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{label_selector, one_of_if_set, port};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{each, fill, fill_zero, list, some, sub, text};

pub static NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::text("Pod-Selector", "Which pods it's about."), Column::AGE],
    row,
    default,
    validate,
    schema: schema_of::<NetworkPolicy>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), cells::selector(object, "/spec/podSelector"), age_of(object, now)]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    for key in ["ingress", "egress"] {
        for rule in each(spec, key) {
            for port in each(rule, "ports") {
                fill(port, "protocol", "TCP");
            }
        }
    }
    // A policy is always about what comes in, and about what goes out once it has rules for that.
    let types: &[&str] = if list(spec, "/egress").is_empty() { &["Ingress"] } else { &["Ingress", "Egress"] };
    fill_zero(spec, "policyTypes", types.to_vec());
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let Some(selector) = some(spec, "/podSelector") {
        label_selector(&mut errors, "spec.podSelector", selector);
    }
    for (key, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(spec, &format!("/{key}")).iter().enumerate() {
            let path = format!("spec.{key}[{i}]");
            for (n, given) in list(rule, "/ports").iter().enumerate() {
                let path = format!("{path}.ports[{n}]");
                let protocol = text(given, "/protocol");
                one_of_if_set(&mut errors, &format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
                if some(given, "/port").is_some() {
                    port(&mut errors, &format!("{path}.port"), given.get("port"));
                }
            }
            for (n, given) in list(rule, &format!("/{peers}")).iter().enumerate() {
                peer(&mut errors, &format!("{path}.{peers}[{n}]"), given);
            }
        }
    }
    for (i, r#type) in list(spec, "/policyTypes").iter().enumerate() {
        let path = format!("spec.policyTypes[{i}]");
        one_of_if_set(&mut errors, &path, r#type.as_str().unwrap_or_default(), &["Ingress", "Egress"]);
    }
    errors
}

fn peer(errors: &mut FieldErrors, path: &str, peer: &Value) {
    let mut selects = false;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = some(peer, &format!("/{key}")) {
            selects = true;
            label_selector(errors, &format!("{path}.{key}"), selector);
        }
    }
    match some(peer, "/ipBlock") {
        Some(_) if selects => {
            errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
        }
        Some(block) => {
            for (key, cidr) in std::iter::once(("cidr".to_owned(), text(block, "/cidr"))).chain(
                list(block, "/except")
                    .iter()
                    .enumerate()
                    .map(|(i, cidr)| (format!("except[{i}]"), cidr.as_str().unwrap_or_default())),
            ) {
                if cidr.parse::<ipnet::IpNet>().is_err() {
                    errors.push(FieldError::invalid(
                        format!("{path}.ipBlock.{key}"),
                        &cidr.into(),
                        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                    ));
                }
            }
        }
        None if !selects => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
    }
}
