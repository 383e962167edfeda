//! Who may do what: RBAC over the registry's roles and bindings, and the node authorizer for kubelets.

mod authorizer;
mod defaults;
mod escalation;
mod node;
pub mod policy;
mod rules;
#[cfg(test)]
mod tests;

use crate::auth::User;
use crate::status::Status;

pub use authorizer::{Authorizer, SubjectRules};
pub use escalation::check_escalation;
pub use rules::{Rule, covers};

/// What a request wants to do. Strings are empty where they don't apply.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of a request for anything but a resource, such as `/version`.
    pub path: &'a str,
    pub is_resource: bool,
    /// Of a list or watch: `fieldSelector`, as it came.
    pub fields: &'a str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Which binding allows it, or what stood against it; may be empty.
    pub reason: String,
}

// === impl Attributes ===

impl Attributes<'_> {
    /// The 403 in upstream's words: `pods is forbidden: User "x" cannot list resource "pods" in API group "" in the
    /// namespace "default"`.
    pub fn forbidden(&self, decision: &Decision) -> Status {
        let user = if self.user.name.is_empty() { "".into() } else { format!("User {:?} ", self.user.name) };
        let mut why = if self.is_resource {
            let resource = self.resource_with_subresource();
            let scope = if self.namespace.is_empty() {
                "at the cluster scope".into()
            } else {
                format!("in the namespace {:?}", self.namespace)
            };
            format!("{user}cannot {} resource {resource:?} in API group {:?} {scope}", self.verb, self.group)
        } else {
            format!("{user}cannot {} path {:?}", self.verb, self.path)
        };
        if !decision.reason.is_empty() {
            why = format!("{why}: {}", decision.reason);
        }
        let resource = if self.is_resource { self.resource } else { "" };
        Status::forbidden(self.group, resource, self.name, &why)
    }

    fn resource_with_subresource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.into()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

// === impl Decision ===

impl Decision {
    pub fn allow(reason: impl Into<String>) -> Self {
        Self { allowed: true, reason: reason.into() }
    }

    pub fn deny(reason: impl Into<String>) -> Self {
        Self { allowed: false, reason: reason.into() }
    }
}

/// What `system:masters` and `cluster-admin` hold.
fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_string()];
    vec![
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}
