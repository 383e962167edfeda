//! Nobody grants what they don't hold: checks on writes of roles and bindings.

use serde_json::Value;

use super::authorizer::{Authorizer, Binding, aggregate};
use super::rules::quoted;
use super::{Attributes, Rule, covers};
use crate::auth::MASTERS;
use crate::status::Status;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks the write of an object of group `rbac.authorization.k8s.io`; anything else passes.
///
/// # Errors
/// 403 in upstream's words if the object would grant more than its writer holds, unless they may `escalate` roles or `bind`
/// this one.
pub fn check_escalation(
    authorizer: &Authorizer,
    request: &Attributes<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if request.group != GROUP || !request.subresource.is_empty() || request.user.is_in(MASTERS) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or(request.name);
    let granted = match request.resource {
        "roles" | "clusterroles" => {
            let unchanged = old.is_some_and(|old| {
                old["rules"] == new["rules"] && old.get("aggregationRule") == new.get("aggregationRule")
            });
            if unchanged || may(authorizer, request, "escalate", request.resource, name, request.namespace) {
                return Ok(());
            }
            if new["aggregationRule"].is_object() {
                // What it will gather isn't known yet: only someone who holds everything may make it.
                super::everything()
            } else {
                serde_json::from_value(new["rules"].clone()).unwrap_or_default()
            }
        }
        "rolebindings" | "clusterrolebindings" => {
            let unchanged =
                old.is_some_and(|old| old["subjects"] == new["subjects"] && old["roleRef"] == new["roleRef"]);
            if unchanged {
                return Ok(());
            }
            let Ok(binding) = Binding::from_value(new) else { return Ok(()) };
            let role = &binding.role_ref;
            let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
            if may(authorizer, request, "bind", resource, &role.name, request.namespace) {
                return Ok(());
            }
            match authorizer.role_rules(&role.kind, &role.name, request.namespace) {
                Ok(rules) => rules,
                // Upstream: binding a role that isn't there takes the right to bind it.
                Err(error) => return Err(not_found(&error, resource, &role.name)),
            }
        }
        _ => return Ok(()),
    };
    confirm(authorizer, request, name, &granted)
}

fn confirm(authorizer: &Authorizer, request: &Attributes<'_>, name: &str, granted: &[Rule]) -> Result<(), Status> {
    let held = authorizer.rules_for(request.user, request.namespace);
    let Err(missing) = covers(&held.rules, granted) else { return Ok(()) };
    let mut missing: Vec<String> = missing.iter().map(Rule::compact).collect();
    missing.sort();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        request.user.name,
        quoted(&request.user.groups),
        missing.join("\n")
    );
    if !held.errors.is_empty() {
        why = format!("{why}; resolution errors: {}", aggregate(&held.errors));
    }
    Err(Status::forbidden(GROUP, request.resource, name, &why))
}

fn may(
    authorizer: &Authorizer,
    request: &Attributes<'_>,
    verb: &str,
    resource: &str,
    name: &str,
    namespace: &str,
) -> bool {
    let asked = Attributes {
        user: request.user,
        verb,
        group: GROUP,
        version: "*",
        resource,
        subresource: "",
        namespace,
        name,
        path: "",
        is_resource: true,
        fields: "",
    };
    authorizer.authorize(&asked).allowed
}

fn not_found(error: &str, resource: &str, name: &str) -> Status {
    let mut status = Status::not_found_resource(GROUP, resource, name);
    status.message = error.into();
    status
}

// === impl Binding ===

impl Binding {
    fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        serde::Deserialize::deserialize(value)
    }
}
