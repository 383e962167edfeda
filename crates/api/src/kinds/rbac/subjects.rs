//! Subjects and role references of bindings of both sorts.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::Column;
use crate::kinds::cells;
use crate::kinds::check::invalid;
use crate::kinds::walk::{each, fill, list, sub, text};
use crate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role", "The role that is given."),
    Column::AGE,
    Column::text("Users", "Users who have it.").wide(),
    Column::text("Groups", "Groups that have it.").wide(),
    Column::text("ServiceAccounts", "Service accounts that have it.").wide(),
];

pub fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| {
        let subjects = list(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        let names: Vec<String> = subjects
            .map(|subject| match text(subject, "/namespace") {
                "" => text(subject, "/name").to_owned(),
                namespace => format!("{namespace}/{}", text(subject, "/name")),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        cells::name(object),
        format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name")).into(),
        age_of(object, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

pub fn default(object: &mut Value) {
    if let Some(role) = sub(object, "roleRef") {
        fill(role, "apiGroup", GROUP);
    }
    for subject in each(object, "subjects") {
        if matches!(text(subject, "/kind"), "User" | "Group") {
            fill(subject, "apiGroup", GROUP);
        }
    }
}

pub fn validate_role_binding(object: &Value, old: Option<&Value>) -> FieldErrors {
    validate(object, old, &["Role", "ClusterRole"])
}

pub fn validate_cluster_role_binding(object: &Value, old: Option<&Value>) -> FieldErrors {
    validate(object, old, &["ClusterRole"])
}

fn validate(object: &Value, old: Option<&Value>, kinds: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    let group = text(role, "/apiGroup");
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", &group.into(), &[GROUP]));
    }
    let kind = text(role, "/kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", &kind.into(), kinds));
    }
    let name = text(role, "/name");
    if name.is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    } else {
        invalid(&mut errors, "roleRef.name", name, names::path_segment(name));
    }
    // A role in a namespace is given in that namespace; subjects may be of any.
    for (i, subject) in list(object, "/subjects").iter().enumerate() {
        one_subject(&mut errors, &format!("subjects[{i}]"), subject);
    }
    if let Some(old) = old
        && old.get("roleRef") != object.get("roleRef")
    {
        errors.push(FieldError::invalid("roleRef", role, "cannot change roleRef"));
    }
    errors
}

fn one_subject(errors: &mut FieldErrors, path: &str, subject: &Value) {
    let (kind, name, group) = (text(subject, "/kind"), text(subject, "/name"), text(subject, "/apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                invalid(errors, &format!("{path}.name"), name, names::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(format!("{path}.apiGroup"), &group.into(), &[""]));
            }
            if text(subject, "/namespace").is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(format!("{path}.apiGroup"), &group.into(), &[GROUP]));
            }
        }
        _ => errors.push(FieldError::not_supported(
            format!("{path}.kind"),
            &kind.into(),
            &["ServiceAccount", "User", "Group"],
        )),
    }
}
