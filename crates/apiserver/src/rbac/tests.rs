use std::sync::Arc;

use serde_json::{Value, json};

use super::{Attributes, Rule, check_escalation, covers, policy};
use crate::auth::fake::{Registry, access, pod};
use crate::auth::{Access, User};

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(kind: &str, namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [subject],
    })
}

fn user(name: &str) -> User {
    User::system(name, &[])
}

/// `verb resource[/subresource][.group] [namespace[/name]]`, or `verb /path`.
fn asked<'a>(user: &'a User, question: &'a str) -> Attributes<'a> {
    let mut words = question.split(' ');
    let (verb, what) = (words.next().expect("a verb"), words.next().expect("what"));
    let (namespace, name) = words.next().map_or(("", ""), |place| place.split_once('/').unwrap_or((place, "")));
    let (what, group) = if what.starts_with('/') { (what, "") } else { what.split_once('.').unwrap_or((what, "")) };
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let is_resource = !what.starts_with('/');
    Attributes {
        user,
        verb,
        group,
        version: "v1",
        resource: if is_resource { resource } else { "" },
        subresource: if is_resource { subresource } else { "" },
        namespace,
        name,
        path: if is_resource { "" } else { what },
        fields: "",
        is_resource,
    }
}

fn cluster() -> Arc<Registry> {
    let registry = Registry::with(&policy::cluster_roles());
    for value in policy::cluster_role_bindings().into_iter().chain(policy::roles()).chain(policy::role_bindings()) {
        registry.put(value);
    }
    let subject = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    for value in [
        role(
            "Role",
            "dev",
            "reader",
            json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}]),
        ),
        role(
            "Role",
            "dev",
            "one",
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]),
        ),
        role("ClusterRole", "", "scaler", json!([{"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"]}])),
        role("ClusterRole", "", "urls", json!([{"nonResourceURLs": ["/logs/*", "/x"], "verbs": ["get"]}])),
        role(
            "ClusterRole",
            "",
            "binder",
            json!([
                {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"], "verbs": ["create"]},
                {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]},
            ]),
        ),
        binding("RoleBinding", "dev", "reader", ("Role", "reader"), subject("User", "jane")),
        binding("RoleBinding", "dev", "one", ("Role", "one"), subject("User", "jane")),
        binding("RoleBinding", "dev", "robots", ("ClusterRole", "edit"), subject("ServiceAccount", "robot")),
        binding("RoleBinding", "dev", "dangling", ("Role", "gone"), subject("User", "lost")),
        binding("RoleBinding", "dev", "binder", ("ClusterRole", "binder"), subject("User", "bob")),
        binding("ClusterRoleBinding", "", "scalers", ("ClusterRole", "scaler"), subject("Group", "scalers")),
        binding("ClusterRoleBinding", "", "urls", ("ClusterRole", "urls"), subject("User", "jane")),
        binding("ClusterRoleBinding", "", "viewers", ("ClusterRole", "view"), subject("User", "viewer")),
        binding("ClusterRoleBinding", "", "admins", ("ClusterRole", "cluster-admin"), subject("User", "root")),
    ] {
        registry.put(value);
    }
    registry
}

#[test]
fn decisions() {
    let access = access(&cluster());
    let scaler = User::system("sam", &["scalers"]);
    let robot = User::service_account("dev", "robot", "");
    let stranger = User::service_account("ops", "robot", "");
    let controller = User::service_account("kube-system", "replicaset-controller", "");
    let admin = User::system("kubernetes-admin", &["system:masters"]);
    let anonymous = User::anonymous();
    let scheduler = User::system("system:kube-scheduler", &[]);
    let [jane, viewer, root] = ["jane", "viewer", "root"].map(user);
    let cases: &[(&User, &str, bool)] = &[
        (&admin, "delete nodes", true),
        (&admin, "get /metrics", true),
        (&root, "delete nodes", true),
        (&root, "get /metrics", true),
        (&jane, "list pods dev", true),
        (&jane, "get pods/log dev/p", true),
        (&jane, "get pods/exec dev/p", false),
        (&jane, "delete pods dev/p", false),
        (&jane, "list pods ops", false),
        (&jane, "list pods", false),
        (&jane, "list pods.metrics.k8s.io dev", false),
        (&jane, "get configmaps dev/a", true),
        (&jane, "get configmaps dev/b", false),
        (&jane, "list configmaps dev", false),
        (&jane, "get /x", true),
        (&jane, "get /x/y", false),
        (&jane, "get /logs/a/b", true),
        (&jane, "post /logs/a", false),
        (&jane, "get /version", true),
        (&jane, "get /apis/apps/v1", true),
        (&jane, "create selfsubjectaccessreviews.authorization.k8s.io", true),
        (&jane, "create subjectaccessreviews.authorization.k8s.io", false),
        (&anonymous, "get /version", true),
        (&anonymous, "get /readyz", true),
        (&anonymous, "get /readyz/etcd", false),
        (&anonymous, "get /api", false),
        (&anonymous, "list pods dev", false),
        (&scaler, "update deployments/scale.apps dev/d", true),
        (&scaler, "update deployments.apps dev/d", false),
        (&robot, "create deployments.apps dev", true),
        (&robot, "get secrets dev/s", true),
        (&robot, "create deployments.apps ops", false),
        (&robot, "create rolebindings.rbac.authorization.k8s.io dev", false),
        (&robot, "get /openid/v1/jwks", true),
        (&jane, "get /openid/v1/jwks", false),
        (&stranger, "create deployments.apps dev", false),
        (&viewer, "list deployments.apps", true),
        (&viewer, "get pods/log dev/p", true),
        (&viewer, "get secrets dev/s", false),
        (&viewer, "watch endpointslices.discovery.k8s.io dev", true),
        (&controller, "create pods dev", true),
        (&controller, "create events.events.k8s.io dev", true),
        (&controller, "create configmaps dev", false),
        (&scheduler, "create pods/binding dev/p", true),
        (&scheduler, "get configmaps kube-system/extension-apiserver-authentication", true),
        (&scheduler, "update deployments.apps dev/d", false),
    ];
    for (user, question, allowed) in cases {
        let decision = access.authorizer.authorize(&asked(user, question));
        assert_eq!(decision.allowed, *allowed, "{}: {question}: {}", user.name, decision.reason);
    }
}

#[test]
fn a_decision_tells_why_and_follows_changes() {
    let registry = cluster();
    let access = access(&registry);
    let [jane, lost] = ["jane", "lost"].map(user);
    let question = asked(&jane, "list pods dev");
    let decision = access.authorizer.authorize(&question);
    assert_eq!(decision.reason, r#"RBAC: allowed by RoleBinding "dev/reader" of Role "reader" to User "jane""#);
    let decision = access.authorizer.authorize(&asked(&lost, "list pods dev"));
    assert_eq!(decision.reason, r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#);

    registry.put(role("Role", "dev", "reader", json!([])));
    assert!(!access.authorizer.authorize(&question).allowed, "the role says nothing any more");
}

#[test]
fn refusals_in_upstreams_words() {
    let [jane, x] = ["jane", "x"].map(user);
    let node = User::system("system:node:n1", &["system:nodes"]);
    let access = access(&cluster());
    let cases = [
        (
            &x,
            "list pods default",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            &x,
            "list nodes",
            r#"nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        (
            &jane,
            "create pods/exec dev/p",
            r#"pods "p" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "dev""#,
        ),
        (
            &x,
            "delete deployments.apps dev/d",
            r#"deployments.apps "d" is forbidden: User "x" cannot delete resource "deployments" in API group "apps" in the namespace "dev""#,
        ),
        (&x, "get /metrics", r#"forbidden: User "x" cannot get path "/metrics""#),
        (
            &node,
            "get secrets dev/s",
            r#"secrets "s" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "dev": no relationship found between node 'n1' and this object"#,
        ),
    ];
    for (user, question, message) in cases {
        let request = asked(user, question);
        let decision = access.authorizer.authorize(&request);
        assert!(!decision.allowed, "{question}");
        let status = request.forbidden(&decision);
        assert_eq!((status.code, status.reason, status.message.as_str()), (403, "Forbidden", message));
    }
}

#[test]
fn a_node_reads_what_its_pods_name() {
    let registry = cluster();
    registry.put(pod(
        "dev",
        "mine",
        json!({
            "nodeName": "n1",
            "serviceAccountName": "robot",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{
                "name": "c",
                "envFrom": [{"configMapRef": {"name": "env"}}],
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
            }],
            "volumes": [
                {"name": "a", "secret": {"secretName": "vol"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
            ],
        }),
    ));
    registry.put(pod(
        "dev",
        "theirs",
        json!({"nodeName": "n2", "volumes": [{"name": "a", "secret": {"secretName": "n1-other"}}]}),
    ));
    let access = access(&registry);
    let node = User::system("system:node:n1", &["system:nodes"]);
    let cases = [
        ("get secrets dev/pull", true),
        ("get secrets dev/key", true),
        ("watch secrets dev/vol", true),
        ("get secrets ops/vol", false),
        ("get secrets dev/n1-other", false),
        ("list secrets dev", false),
        ("get configmaps dev/env", true),
        ("get configmaps dev/kube-root-ca.crt", true),
        ("get configmaps dev/key", false),
        ("get persistentvolumeclaims dev/claim", true),
        ("create serviceaccounts/token dev/robot", true),
        ("create serviceaccounts/token dev/default", false),
        ("list pods", false),
        ("get pods dev/mine", true),
        ("watch pods dev/mine", true),
        ("get pods dev/theirs", false),
        ("delete pods dev/theirs", true),
        ("get nodes /n1", true),
        ("list nodes", false),
        ("patch pods/status dev/mine", true),
        ("patch nodes/status", true),
        ("update leases.coordination.k8s.io kube-node-lease/n1", true),
        ("update leases.coordination.k8s.io kube-node-lease/n2", false),
        ("update leases.coordination.k8s.io default/n1", false),
        ("create deployments.apps dev", false),
        ("get /metrics", false),
        ("get /version", true),
    ];
    for (question, allowed) in cases {
        let decision = access.authorizer.authorize(&asked(&node, question));
        assert_eq!(decision.allowed, allowed, "{question}: {}", decision.reason);
    }
    // As upstream's `AuthorizeNodeWithSelectors` has it.
    for (fields, allowed) in [("spec.nodeName=n1", true), ("spec.nodeName=n2", false), ("spec.nodeName!=n1", false)] {
        let question = Attributes { fields, ..asked(&node, "list pods") };
        assert_eq!(access.authorizer.authorize(&question).allowed, allowed, "{fields}");
    }
    // The name alone makes no node.
    let impostor = user("system:node:n1");
    assert!(!access.authorizer.authorize(&asked(&impostor, "list pods")).allowed);
}

fn escalates(access: &Access, user: &User, question: &str, object: &Value) -> Option<String> {
    check_escalation(&access.authorizer, &asked(user, question), object, None).err().map(|status| status.message)
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let access = access(&cluster());
    let [bob, root] = ["bob", "root"].map(user);
    let roles = "create roles.rbac.authorization.k8s.io dev";
    let bindings = "create rolebindings.rbac.authorization.k8s.io dev";
    let pods = role("Role", "dev", "r", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}]));
    let held = role(
        "Role",
        "dev",
        "r",
        json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]),
    );
    let subject = json!({"kind": "User", "name": "bob"});
    let view = binding("RoleBinding", "dev", "b", ("ClusterRole", "view"), subject.clone());
    let reader = binding("RoleBinding", "dev", "b", ("Role", "reader"), subject.clone());
    let gone = binding("RoleBinding", "dev", "b", ("Role", "gone"), subject);

    assert_eq!(escalates(&access, &root, roles, &pods), None);
    assert_eq!(escalates(&access, &User::admin(), roles, &pods), None);
    assert_eq!(escalates(&access, &bob, roles, &held), None);
    assert_eq!(
        escalates(&access, &bob, roles, &pods).as_deref(),
        Some(
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is \
             attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"get\"]}"
        )
    );
    assert_eq!(escalates(&access, &bob, bindings, &view), None, "bob may bind view");
    assert!(
        escalates(&access, &bob, bindings, &reader)
            .expect("refused")
            .contains("rolebindings.rbac.authorization.k8s.io \"b\" is forbidden")
    );
    assert_eq!(
        escalates(&access, &bob, bindings, &gone).as_deref(),
        Some(r#"role.rbac.authorization.k8s.io "gone" not found"#)
    );
    // Labels may change on a role whose rules one doesn't hold.
    let unchanged = check_escalation(&access.authorizer, &asked(&bob, roles), &pods, Some(&pods));
    assert!(unchanged.is_ok());
}

#[test]
fn coverage() {
    let rule = |groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]| {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_string()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    };
    let url = |urls: &[&str]| Rule {
        verbs: vec!["get".into()],
        non_resource_urls: urls.iter().map(|url| (*url).to_string()).collect(),
        ..Rule::default()
    };
    let cases = [
        (vec![rule(&["*"], &["*"], &[], &["*"])], rule(&["apps"], &["deployments"], &[], &["get"]), true),
        (vec![rule(&["*"], &["*"], &[], &["get"])], rule(&["apps"], &["deployments"], &[], &["*"]), false),
        // Two rules together cover what neither covers alone.
        (
            vec![rule(&[""], &["pods"], &[], &["get"]), rule(&[""], &["pods"], &[], &["list"])],
            rule(&[""], &["pods"], &[], &["get", "list"]),
            true,
        ),
        (vec![rule(&[""], &["pods"], &["a"], &["get"])], rule(&[""], &["pods"], &[], &["get"]), false),
        (vec![rule(&[""], &["pods"], &[], &["get"])], rule(&[""], &["pods"], &["a"], &["get"]), true),
        (vec![rule(&[""], &["*/scale"], &[], &["get"])], rule(&[""], &["x/scale"], &[], &["get"]), true),
        (vec![rule(&[""], &["pods"], &[], &["get"])], rule(&[""], &["pods/log"], &[], &["get"]), false),
        (vec![url(&["/a/*"])], url(&["/a/b"]), true),
        (vec![url(&["/a"])], url(&["/a/b"]), false),
        (vec![rule(&["*"], &["*"], &[], &["*"])], url(&["/a"]), false),
    ];
    for (held, asked, covered) in cases {
        assert_eq!(covers(&held, std::slice::from_ref(&asked)).is_ok(), covered, "{held:?} for {asked:?}");
    }
}

/// Names and shapes as upstream's `bootstrappolicy/testdata` publishes them.
#[test]
fn default_roles_are_upstreams() {
    let roles = policy::cluster_roles();
    let find = |name: &str| roles.iter().find(|role| role["metadata"]["name"] == name).expect(name);
    let mut names: Vec<&str> = roles.iter().filter_map(|role| role["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "no role twice");
    for role in &roles {
        assert_eq!(role["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        assert_eq!(role["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true");
        let rules: Vec<Rule> = serde_json::from_value(role["rules"].clone()).expect("rules");
        assert!(!rules.is_empty(), "{role}");
        for rule in rules {
            assert!(!rule.verbs.is_empty(), "{role}");
            assert_eq!(rule.resources.is_empty(), rule.api_groups.is_empty(), "{role}");
            assert_ne!(rule.resources.is_empty(), rule.non_resource_urls.is_empty(), "{role}");
        }
    }
    assert_eq!(
        find("cluster-admin")["rules"],
        json!([
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ])
    );
    assert_eq!(
        find("system:controller:replicaset-controller")["rules"],
        json!([
            {"apiGroups": ["apps", "extensions"], "resources": ["replicasets"], "verbs": ["get", "list", "update", "watch"]},
            {"apiGroups": ["apps", "extensions"], "resources": ["replicasets/status"], "verbs": ["update"]},
            {"apiGroups": ["apps", "extensions"], "resources": ["replicasets/finalizers"], "verbs": ["update"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "list", "patch", "watch"]},
            {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
        ])
    );
    assert_eq!(
        find("edit")["aggregationRule"],
        json!({"clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}]})
    );
    assert_eq!(find("view")["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    assert_eq!(
        find("system:aggregate-to-view")["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"],
        "true"
    );
    for binding in policy::cluster_role_bindings() {
        find(binding["roleRef"]["name"].as_str().expect("a role"));
    }
}
