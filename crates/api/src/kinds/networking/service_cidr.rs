//! A range of Service addresses.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::list;

pub static SERVICE_CIDR: Kind = Kind {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("ServiceCIDR")],
    columns: &[Column::NAME, Column::text("CIDRs", "Its ranges of addresses."), Column::AGE],
    row,
    validate,
    schema: schema_of::<ServiceCIDR>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ranges: Vec<&str> = list(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
    vec![cells::name(object), ranges.join(",").into(), age_of(object, now)]
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let ranges = list(object, "/spec/cidrs");
    if ranges.is_empty() {
        errors.push(FieldError::required("spec.cidrs", "at least one CIDR required"));
    }
    if ranges.len() > 2 {
        errors.push(FieldError::invalid("spec", &ranges.into(), "may only hold up to 2 values"));
    }
    for (i, range) in ranges.iter().enumerate() {
        if range.as_str().is_none_or(|range| range.parse::<ipnet::IpNet>().is_err()) {
            errors.push(FieldError::invalid(
                format!("spec.cidrs[{i}]"),
                range,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ));
        }
    }
    errors
}
