//! Rules of roles of both sorts.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::cells;
use crate::kinds::walk::{list, text};

pub fn row(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/metadata/creationTimestamp").into()]
}

pub fn validate_role(object: &Value, _old: Option<&Value>) -> FieldErrors {
    rules(object, Scope::Namespace)
}

pub fn validate_cluster_role(object: &Value, _old: Option<&Value>) -> FieldErrors {
    rules(object, Scope::Cluster)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespace,
    Cluster,
}

fn rules(object: &Value, scope: Scope) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, rule) in list(object, "/rules").iter().enumerate() {
        let path = format!("rules[{i}]");
        if list(rule, "/verbs").is_empty() {
            errors.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        let (groups, resources) = (list(rule, "/apiGroups"), list(rule, "/resources"));
        let urls = list(rule, "/nonResourceURLs");
        if !urls.is_empty() {
            let at = format!("{path}.nonResourceURLs");
            if scope == Scope::Namespace {
                errors.push(FieldError::invalid(
                    at.clone(),
                    &urls.into(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !groups.is_empty() || !resources.is_empty() || !list(rule, "/resourceNames").is_empty() {
                errors.push(FieldError::invalid(
                    at,
                    &urls.into(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(FieldError::required(
                format!("{path}.apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if resources.is_empty() {
            errors.push(FieldError::required(
                format!("{path}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_about_resources_or_urls() {
        let cases: [(Value, &[&str]); 4] = [
            (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), &[]),
            (
                json!({"apiGroups": [""], "resources": ["pods"]}),
                &["rules[0].verbs: Required value: verbs must contain at least one value"],
            ),
            (
                json!({"verbs": ["get"]}),
                &[
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            (
                json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                ],
            ),
        ];
        for (rule, expected) in cases {
            let errors = validate_role(&json!({"rules": [rule]}), None);
            let wrong: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(wrong, expected);
        }
        let urls = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        assert_eq!(validate_cluster_role(&urls, None), []);
    }
}
