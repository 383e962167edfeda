//! Upstream's bootstrap policy: the roles and bindings that a new cluster starts with, made from the tables in
//! [`super::defaults`].

use serde_json::{Value, json};

use super::{Rule, defaults};
use crate::auth::{AUTHENTICATED, MASTERS, SERVICE_ACCOUNTS, UNAUTHENTICATED};

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// What upstream's `system:node` role lists, which the node authorizer goes by.
pub fn node_rules() -> Vec<Rule> {
    parse(defaults::CLUSTER_ROLES)
        .into_iter()
        .find(|(name, _)| name == "system:node")
        .map(|(_, r)| r)
        .unwrap_or_default()
}

/// The default ClusterRoles, those of controllers included.
pub fn cluster_roles() -> Vec<Value> {
    let mut roles = Vec::new();
    for (name, rules) in parse(defaults::CLUSTER_ROLES) {
        let mut role = object("ClusterRole", "", &name);
        if let Some(to) = name.strip_prefix("system:aggregate-to-") {
            role["metadata"]["labels"][format!("{AGGREGATE}{to}")] = "true".into();
        }
        role["rules"] = json!(rules);
        roles.push(role);
    }
    for (name, rules) in parse(defaults::CONTROLLER_ROLES) {
        let mut rules = rules;
        // Nearly every controller records events; the table names those that don't.
        if !defaults::CONTROLLERS_WITHOUT_EVENTS.contains(&name.as_str()) {
            rules.extend(parse_rule("create,patch,update core,events.k8s.io events"));
        }
        let mut role = object("ClusterRole", "", &format!("system:controller:{name}"));
        role["rules"] = json!(rules);
        roles.push(role);
    }
    roles.extend(aggregated(&roles));
    roles
}

/// `view`, `edit` and `admin`: each has what the one before it has. Their rules are what upstream's aggregation controller
/// would gather from the roles that bear the labels.
fn aggregated(roles: &[Value]) -> Vec<Value> {
    let mut gathered: Vec<Value> = Vec::new();
    let mut made = Vec::new();
    for (name, to) in [("view", Some("edit")), ("edit", Some("admin")), ("admin", None)] {
        let label = format!("{AGGREGATE}{name}");
        let bears = |role: &&Value| role["metadata"]["labels"][&label] == "true";
        for rule in roles.iter().filter(bears).flat_map(|role| role["rules"].as_array()).flatten() {
            if !gathered.contains(rule) {
                gathered.push(rule.clone());
            }
        }
        let mut role = object("ClusterRole", "", name);
        if let Some(to) = to {
            role["metadata"]["labels"][format!("{AGGREGATE}{to}")] = "true".into();
        }
        role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        role["rules"] = json!(gathered);
        made.push(role);
    }
    made
}

/// The default ClusterRoleBindings.
pub fn cluster_role_bindings() -> Vec<Value> {
    let bind =
        |role: &str, subjects: Vec<Value>| binding("ClusterRoleBinding", "", role, "ClusterRole", role, subjects);
    let mut bindings = vec![
        bind("cluster-admin", vec![group(MASTERS)]),
        bind("system:monitoring", vec![group("system:monitoring")]),
        bind("system:discovery", vec![group(AUTHENTICATED)]),
        bind("system:basic-user", vec![group(AUTHENTICATED)]),
        bind("system:public-info-viewer", vec![group(AUTHENTICATED), group(UNAUTHENTICATED)]),
        bind("system:service-account-issuer-discovery", vec![group(SERVICE_ACCOUNTS)]),
        bind("system:node-proxier", vec![user("system:kube-proxy")]),
        bind("system:kube-controller-manager", vec![user("system:kube-controller-manager")]),
        bind("system:kube-scheduler", vec![user("system:kube-scheduler")]),
        bind("system:volume-scheduler", vec![user("system:kube-scheduler")]),
        bind("system:kube-dns", vec![service_account("kube-dns")]),
        bind("system:coredns", vec![service_account("coredns")]),
        // Kept without subjects since upstream 1.8: the node authorizer speaks for nodes.
        bind("system:node", Vec::new()),
    ];
    for (name, _) in parse(defaults::CONTROLLER_ROLES) {
        bindings.push(bind(&format!("system:controller:{name}"), vec![service_account(&name)]));
    }
    bindings
}

/// The default Roles of `kube-system` and `kube-public`.
pub fn roles() -> Vec<Value> {
    let named = |namespace: &'static str| {
        move |(name, rules): (String, Vec<Rule>)| {
            let mut role = object("Role", namespace, &name);
            role["rules"] = json!(rules);
            role
        }
    };
    let system = parse(defaults::KUBE_SYSTEM_ROLES).into_iter().map(named("kube-system"));
    system.chain(parse(defaults::KUBE_PUBLIC_ROLES).into_iter().map(named("kube-public"))).collect()
}

/// The default RoleBindings of `kube-system` and `kube-public`.
pub fn role_bindings() -> Vec<Value> {
    let system = |name: &str, role: &str, subjects| binding("RoleBinding", "kube-system", name, "Role", role, subjects);
    let mut bindings = vec![system(
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        vec![user("system:kube-controller-manager"), user("system:kube-scheduler")],
    )];
    for part in ["kube-controller-manager", "kube-scheduler"] {
        let role = format!("system::leader-locking-{part}");
        bindings.push(system(&role, &role, vec![user(&format!("system:{part}")), service_account(part)]));
    }
    for controller in ["bootstrap-signer", "cloud-provider", "token-cleaner"] {
        let role = format!("system:controller:{controller}");
        bindings.push(system(&role, &role, vec![service_account(controller)]));
    }
    let role = "system:controller:bootstrap-signer";
    let subjects = vec![service_account("bootstrap-signer")];
    bindings.push(binding("RoleBinding", "kube-public", role, "Role", role, subjects));
    bindings
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata})
}

fn binding(kind: &str, namespace: &str, name: &str, role_kind: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut binding = object(kind, namespace, name);
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

fn group(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name})
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
}

/// A table of roles: `role` and its name, behind it its rules, a line each.
fn parse(table: &str) -> Vec<(String, Vec<Rule>)> {
    let mut roles: Vec<(String, Vec<Rule>)> = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("role ") {
            Some(name) => roles.push((name.into(), Vec::new())),
            None => {
                let (_, rules) = roles.last_mut().expect("a table begins with a role's name");
                rules.extend(parse_rule(line));
            }
        }
    }
    roles
}

/// `verbs groups resources… [= names…]`, verbs and groups with commas between; `core` is the group without a name, `read`
/// and `write` are the verbs of reading and of changing. URLs stand behind `@` instead of a group.
fn parse_rule(line: &str) -> Option<Rule> {
    let (line, names) = line.split_once(" = ").unwrap_or((line, ""));
    let mut words = line.split_whitespace();
    let (verbs, groups) = (words.next()?, words.next()?);
    let mut verbs: Vec<String> = verbs
        .split(',')
        .flat_map(|verb| match verb {
            "read" => vec!["get", "list", "watch"],
            "write" => vec!["create", "delete", "deletecollection", "patch", "update"],
            verb => vec![verb],
        })
        .map(String::from)
        .collect();
    verbs.sort();
    let targets: Vec<String> = words.map(String::from).collect();
    if groups == "@" {
        return Some(Rule { verbs, non_resource_urls: targets, ..Rule::default() });
    }
    Some(Rule {
        verbs,
        api_groups: groups.split(',').map(|group| if group == "core" { "" } else { group }.into()).collect(),
        resources: targets,
        resource_names: names.split_whitespace().map(String::from).collect(),
        ..Rule::default()
    })
}
