//! What upstream checks of where a pod may run: affinities, tolerations, spreading.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{invalid, label_selector, one_of, one_of_if_set, optional_name, required};
use crate::kinds::walk::{count, list, some, text};
use crate::names;

pub fn affinity(errors: &mut FieldErrors, path: &str, affinity: &Value) {
    if let Some(node) = some(affinity, "/nodeAffinity") {
        node_affinity(errors, &format!("{path}.nodeAffinity"), node);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = some(affinity, &format!("/{key}")) else { continue };
        let path = format!("{path}.{key}");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in list(pods, &format!("/{required}")).iter().enumerate() {
            pod_term(errors, &format!("{path}.{required}[{i}]"), term);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, weighted) in list(pods, &format!("/{preferred}")).iter().enumerate() {
            let path = format!("{path}.{preferred}[{i}]");
            weight(errors, &path, weighted);
            if let Some(term) = some(weighted, "/podAffinityTerm") {
                pod_term(errors, &format!("{path}.podAffinityTerm"), term);
            }
        }
    }
}

fn node_affinity(errors: &mut FieldErrors, path: &str, affinity: &Value) {
    let key = "requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(selector) = some(affinity, &format!("/{key}")) {
        node_selector(errors, &format!("{path}.{key}"), selector);
    }
    let key = "preferredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in list(affinity, &format!("/{key}")).iter().enumerate() {
        let path = format!("{path}.{key}[{i}]");
        weight(errors, &path, term);
        if let Some(term) = some(term, "/preference") {
            node_selector_term(errors, &format!("{path}.preference"), term);
        }
    }
}

/// `ValidateNodeSelector`, for volumes too.
pub fn node_selector(errors: &mut FieldErrors, path: &str, selector: &Value) {
    let terms = list(selector, "/nodeSelectorTerms");
    let path = format!("{path}.nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(errors, &format!("{path}[{i}]"), term);
    }
}

fn node_selector_term(errors: &mut FieldErrors, path: &str, term: &Value) {
    for (i, expression) in list(term, "/matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{i}]");
        let values = list(expression, "/values");
        let at = format!("{path}.values");
        let operator = text(expression, "/operator");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(at, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors
                .push(FieldError::forbidden(at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")),
            "Gt" | "Lt" if values.len() != 1 => {
                errors.push(FieldError::required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &operator.into(),
                "not a valid selector operator",
            )),
        }
        let key = text(expression, "/key");
        invalid(errors, &format!("{path}.key"), key, names::qualified_name(key));
    }
    for (i, requirement) in list(term, "/matchFields").iter().enumerate() {
        let path = format!("{path}.matchFields[{i}]");
        let values = list(requirement, "/values");
        match text(requirement, "/operator") {
            "In" | "NotIn" if values.len() != 1 => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            "In" | "NotIn" => {}
            other => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &other.into(),
                "not a valid selector operator",
            )),
        }
        let key = text(requirement, "/key");
        if key != "metadata.name" {
            errors.push(FieldError::invalid(format!("{path}.key"), &key.into(), "not a valid field selector key"));
        }
    }
}

fn weight(errors: &mut FieldErrors, path: &str, term: &Value) {
    let weight = count(term, "/weight");
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(format!("{path}.weight"), &weight.into(), "must be in the range 1-100"));
    }
}

fn pod_term(errors: &mut FieldErrors, path: &str, term: &Value) {
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = some(term, &format!("/{key}")) {
            label_selector(errors, &format!("{path}.{key}"), selector);
        }
    }
    for namespace in list(term, "/namespaces") {
        let name = namespace.as_str().unwrap_or_default();
        invalid(errors, &format!("{path}.namespace"), name, names::dns1123_label(name));
    }
    topology_key(errors, &format!("{path}.topologyKey"), text(term, "/topologyKey"), "can not be empty");
}

fn topology_key(errors: &mut FieldErrors, path: &str, key: &str, when_empty: &str) {
    if key.is_empty() {
        errors.push(FieldError::required(path, when_empty));
    }
    invalid(errors, path, key, names::qualified_name(key));
}

pub fn tolerations(errors: &mut FieldErrors, path: &str, tolerations: &[Value]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let (key, operator, effect) =
            (text(toleration, "/key"), text(toleration, "/operator"), text(toleration, "/effect"));
        optional_name(errors, &format!("{path}.key"), key, names::qualified_name);
        if key.is_empty() && operator != "Exists" {
            errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &operator.into(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if some(toleration, "/tolerationSeconds").is_some() && effect != "NoExecute" {
            errors.push(FieldError::invalid(
                format!("{path}.effect"),
                &effect.into(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        let value = text(toleration, "/value");
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(format!("{path}.operator"), &value.into(), &wrong.join(";")));
                }
            }
            "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &value.into(),
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            _ => one_of(errors, &format!("{path}.operator"), operator, &["Equal", "Exists"]),
        }
        one_of_if_set(errors, &format!("{path}.effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

pub fn spread_constraints(errors: &mut FieldErrors, path: &str, constraints: &[Value]) {
    let mut seen = BTreeSet::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let skew = count(constraint, "/maxSkew");
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), &skew.into(), "must be greater than zero"));
        }
        let (key, otherwise) = (text(constraint, "/topologyKey"), text(constraint, "/whenUnsatisfiable"));
        required(errors, &format!("{path}.topologyKey"), key);
        one_of(errors, &format!("{path}.whenUnsatisfiable"), otherwise, &["DoNotSchedule", "ScheduleAnyway"]);
        if !seen.insert((key, otherwise)) {
            errors.push(FieldError::duplicate(
                format!("{path}.{{topologyKey, whenUnsatisfiable}}"),
                &format!("{{{key}, {otherwise}}}").into(),
            ));
        }
        if let Some(selector) = some(constraint, "/labelSelector") {
            label_selector(errors, &format!("{path}.labelSelector"), selector);
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = text(constraint, &format!("/{key}"));
            one_of_if_set(errors, &format!("{path}.{key}"), policy, &["Honor", "Ignore"]);
        }
    }
}
