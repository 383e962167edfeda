//! What may be done, everywhere.

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::Value;

use super::rules;
use crate::field::FieldErrors;
use crate::kind::{Column, Kind, NameRule};
use crate::kinds::check::label_selector;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{list, some};

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: rules::row,
    validate,
    schema: schema_of::<ClusterRole>,
    names: NameRule::PathSegment,
    acted_on: true,
    create_on_update: true,
    ..Kind::NONE
};

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = rules::validate_cluster_role(object, old);
    if some(object, "/aggregationRule").is_some() {
        let path = "aggregationRule.clusterRoleSelectors";
        let selectors = list(object, "/aggregationRule/clusterRoleSelectors");
        if selectors.is_empty() {
            errors.push(crate::FieldError::required(
                path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ));
        }
        for (i, selector) in selectors.iter().enumerate() {
            label_selector(&mut errors, &format!("{path}[{i}]"), selector);
        }
    }
    errors
}
