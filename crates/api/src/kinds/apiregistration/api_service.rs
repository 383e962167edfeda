//! A group and version, and who serves it.

use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self};
use crate::kinds::check::required_name;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, field, fill, list, some, text};
use crate::names;

pub static API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("APIService")],
    columns: &[
        Column::NAME,
        Column::text("Service", "Who serves it: a Service, or this server itself."),
        Column::text("Available", "Whether it answers."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    schema: schema_of::<APIService>,
    unconditional_update: false,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match some(object, "/spec/service") {
        None => "Local".to_owned(),
        Some(service) => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
    };
    let condition = list(object, "/status/conditions").iter().find(|held| text(held, "/type") == "Available");
    let available = match condition {
        None => "Unknown".to_owned(),
        Some(held) if text(held, "/status") == "True" => "True".to_owned(),
        Some(held) => format!("{} ({})", text(held, "/status"), text(held, "/reason")),
    };
    vec![cells::name(object), service.into(), available.into(), age_of(object, now)]
}

fn default(object: &mut Value) {
    if let Some(service) = field(object, "spec").and_then(|spec| field(spec, "service")) {
        fill(service, "port", 443);
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (group, version, name) = (text(spec, "/group"), text(spec, "/version"), text(object, "/metadata/name"));
    let wanted = format!("{version}.{group}");
    if name != wanted {
        let message = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid("metadata.name", &name.into(), &message));
    }
    required_name(&mut errors, "spec.version", version, names::dns1035_label);
    for (key, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let value = count(spec, &format!("/{key}"));
        if !(1..=most).contains(&value) {
            let message = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(format!("spec.{key}"), &value.into(), &message));
        }
    }
    errors
}
