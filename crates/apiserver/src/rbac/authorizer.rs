//! Evaluates roles and bindings as they are in the registry, compiled once and again only when one of them changes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tug_api::kinds::rbac;
use tug_api::{Kind, ObjectKey};

use super::{Attributes, Decision, Rule, node};
use crate::auth::{MASTERS, SERVICE_ACCOUNT_PREFIX, User};
use crate::objects::Objects;

/// Answers whether a request may happen.
pub struct Authorizer {
    objects: Arc<dyn Objects>,
    cluster_roles: Table<Role>,
    cluster_role_bindings: Table<Binding>,
    roles: Table<Role>,
    role_bindings: Table<Binding>,
}

/// What a subject may do in a namespace, from every binding that names it.
#[derive(Debug, Default)]
pub struct SubjectRules {
    pub rules: Vec<Rule>,
    /// Bindings whose role isn't there.
    pub errors: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Role {
    // Null in aggregated roles until their controller fills it.
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Binding {
    subjects: Option<Vec<Subject>>,
    pub(super) role_ref: RoleRef,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RoleRef {
    pub(super) kind: String,
    pub(super) name: String,
}

/// One kind's objects, decoded. Replaced whole when the kind's revision moves; what hasn't changed is taken over.
struct Table<T> {
    kind: &'static Kind,
    compiled: Mutex<(Option<u64>, Arc<Compiled<T>>)>,
}

/// By namespace, then name. Cluster-scoped kinds have one namespace, the empty one.
type Compiled<T> = HashMap<String, HashMap<String, (u64, Arc<T>)>>;

// === impl Authorizer ===

impl Authorizer {
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self {
            objects,
            cluster_roles: Table::new(&rbac::CLUSTER_ROLE),
            cluster_role_bindings: Table::new(&rbac::CLUSTER_ROLE_BINDING),
            roles: Table::new(&rbac::ROLE),
            role_bindings: Table::new(&rbac::ROLE_BINDING),
        }
    }

    /// Whether a request may happen, and by which binding.
    pub fn authorize(&self, request: &Attributes<'_>) -> Decision {
        if request.user.is_in(MASTERS) {
            return Decision::allow("");
        }
        let mut reason = String::new();
        if let Some(node) = request.user.node() {
            match node::authorize(&*self.objects, node, request) {
                decision if decision.allowed => return decision,
                decision => reason = decision.reason,
            }
        }
        let mut allowed = None;
        let mut errors = Vec::new();
        self.visit(request.user, request.namespace, |found| match found {
            Found::Rule(rule, by) if rule.allows(request) => {
                allowed = Some(by());
                false
            }
            Found::Rule(..) => true,
            Found::Missing(error) => {
                errors.push(error);
                true
            }
        });
        if let Some(by) = allowed {
            return Decision::allow(format!("RBAC: allowed by {by}"));
        }
        if !errors.is_empty() {
            let rbac = format!("RBAC: {}", aggregate(&errors));
            reason = if reason.is_empty() { rbac } else { format!("{reason}, {rbac}") };
        }
        Decision::deny(reason)
    }

    /// Every rule that holds for `user` in `namespace` (cluster-wide ones alone when it is empty).
    pub fn rules_for(&self, user: &User, namespace: &str) -> SubjectRules {
        let mut held = SubjectRules::default();
        if user.is_in(MASTERS) {
            held.rules.extend(super::everything());
        }
        self.visit(user, namespace, |found| {
            match found {
                Found::Rule(rule, _) if held.rules.contains(rule) => {}
                Found::Rule(rule, _) => held.rules.push(rule.clone()),
                Found::Missing(error) => held.errors.push(error),
            }
            true
        });
        held
    }

    /// The rules of the role that a binding in `namespace` names.
    ///
    /// # Errors
    /// The name of the role, in upstream's words, when it isn't there.
    pub(super) fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Vec<Rule>, String> {
        let role = self.role(kind, name, namespace)?;
        Ok(role.rules.clone().unwrap_or_default())
    }

    fn role(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<Role>, String> {
        let (table, namespace) = match kind {
            "Role" => (&self.roles, namespace),
            _ => (&self.cluster_roles, ""),
        };
        let found = table.get(&*self.objects).get(namespace).and_then(|roles| roles.get(name)).map(|(_, r)| r.clone());
        let resource = if kind == "Role" { "role" } else { "clusterrole" };
        found.ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {name:?} not found"))
    }

    /// Shows `visitor` each rule that holds for `user`, until it says `false`.
    fn visit(&self, user: &User, namespace: &str, mut visitor: impl FnMut(Found<'_>) -> bool) {
        let everywhere = self.cluster_role_bindings.get(&*self.objects);
        let here = (!namespace.is_empty()).then(|| self.role_bindings.get(&*self.objects));
        let everywhere = everywhere.get("").into_iter().flatten().map(|entry| ("", entry));
        let here = here.as_ref().and_then(|bindings| bindings.get(namespace));
        let here = here.into_iter().flatten().map(|entry| (namespace, entry));
        for (scope, (name, (_, binding))) in everywhere.chain(here) {
            let subjects = binding.subjects.iter().flatten();
            let Some(subject) = subjects.into_iter().find(|subject| subject.is(user, scope)) else { continue };
            let role_ref = &binding.role_ref;
            let role = match self.role(&role_ref.kind, &role_ref.name, scope) {
                Ok(role) => role,
                Err(error) => {
                    if !visitor(Found::Missing(error)) {
                        return;
                    }
                    continue;
                }
            };
            let by = || {
                let binding = match scope {
                    "" => format!("ClusterRoleBinding {name:?}"),
                    _ => format!("RoleBinding {:?}", ObjectKey::new(scope, name).to_string()),
                };
                format!("{binding} of {} {:?} to {}", role_ref.kind, role_ref.name, subject.shown(scope))
            };
            for rule in role.rules.iter().flatten() {
                if !visitor(Found::Rule(rule, &by)) {
                    return;
                }
            }
        }
    }
}

enum Found<'a> {
    Rule(&'a Rule, &'a dyn Fn() -> String),
    Missing(String),
}

// === impl Subject ===

impl Subject {
    /// `scope` is the binding's namespace, which a service account without one is taken to be in.
    fn is(&self, user: &User, scope: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.name == self.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { scope } else { &self.namespace };
                let held = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|name| name.split_once(':'));
                !namespace.is_empty() && held == Some((namespace, &self.name))
            }
            _ => false,
        }
    }

    fn shown(&self, scope: &str) -> String {
        let name = match self.kind.as_str() {
            "ServiceAccount" if self.namespace.is_empty() => format!("{}/{scope}", self.name),
            "ServiceAccount" => format!("{}/{}", self.name, self.namespace),
            _ => self.name.clone(),
        };
        format!("{} {name:?}", self.kind)
    }
}

// === impl Table ===

impl<T: DeserializeOwned> Table<T> {
    fn new(kind: &'static Kind) -> Self {
        Self { kind, compiled: Mutex::new((None, Arc::default())) }
    }

    fn get(&self, objects: &dyn Objects) -> Arc<Compiled<T>> {
        // Read before the objects: a change in between is compiled again next time, never missed.
        let revision = objects.revision(self.kind);
        let mut compiled = self.compiled.lock();
        if compiled.0 == Some(revision) {
            return compiled.1.clone();
        }
        let mut fresh: Compiled<T> = HashMap::new();
        for object in objects.list(self.kind, None) {
            let (namespace, name) = (&object.key.namespace, &object.key.name);
            let kept = compiled.1.get(namespace).and_then(|held| held.get(name));
            let entry = match kept {
                Some((revision, entry)) if *revision == object.revision => entry.clone(),
                _ => match serde_json::from_slice(object.json()) {
                    Ok(entry) => Arc::new(entry),
                    Err(error) => {
                        tracing::error!(kind = self.kind.kind, object = %object.key, %error, "grants nothing: not decodable");
                        continue;
                    }
                },
            };
            fresh.entry(namespace.clone()).or_default().insert(name.clone(), (object.revision, entry));
        }
        *compiled = (Some(revision), Arc::new(fresh));
        compiled.1.clone()
    }
}

/// Several errors in brackets, one bare.
pub(super) fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}
