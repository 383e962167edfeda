use std::sync::Arc;

use serde_json::{Value, json};

use super::{Operation, admit};
use crate::auth::User;
use crate::auth::fake::{Registry, access, namespace, pod, service_account};
use crate::rbac::Attributes;

fn request<'a>(user: &'a User, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb: "create",
        group: "",
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        path: "",
        is_resource: true,
        fields: "",
    }
}

fn cluster() -> Arc<Registry> {
    let mut dying = namespace("dying");
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut quiet = service_account("ns", "quiet");
    quiet["automountServiceAccountToken"] = false.into();
    let mut puller = service_account("ns", "puller");
    puller["imagePullSecrets"] = json!([{"name": "registry"}]);
    let class = |name: &str, value: i64, policy: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": policy,
        })
    };
    Registry::with(&[
        namespace("ns"),
        namespace("default"),
        dying,
        service_account("ns", "default"),
        quiet,
        puller,
        class("high", 1000, "Never"),
        class("system-node-critical", 2_000_001_000, "PreemptLowerPriority"),
    ])
}

fn admitted(registry: &Arc<Registry>, spec: Value) -> Result<Value, String> {
    let access = access(registry);
    let user = User::admin();
    let mut value = pod("ns", "p", spec);
    let request = request(&user, "pods", "ns", "");
    admit(&access, &request, Operation::Create, Some(&mut value), None).map_err(|status| status.message)?;
    Ok(value)
}

#[test]
fn refusals_in_upstreams_words() {
    let registry = cluster();
    let access = access(&registry);
    let admin = User::admin();
    let create = Operation::Create;
    let cases = [
        ("configmaps", "nowhere", "", create, 404, r#"namespaces "nowhere" not found"#),
        (
            "configmaps",
            "dying",
            "",
            create,
            403,
            r#"configmaps "c" is forbidden: unable to create new content in namespace dying because it is being terminated"#,
        ),
        (
            "namespaces",
            "default",
            "default",
            Operation::Delete,
            403,
            r#"namespaces "default" is forbidden: this namespace may not be deleted"#,
        ),
        (
            "namespaces",
            "kube-system",
            "kube-system",
            Operation::Delete,
            403,
            r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#,
        ),
    ];
    for (resource, namespace, name, operation, code, message) in cases {
        let mut new = json!({"metadata": {"name": "c", "namespace": namespace}});
        let new = (operation != Operation::Delete).then_some(&mut new);
        let status =
            admit(&access, &request(&admin, resource, namespace, name), operation, new, None).expect_err(message);
        assert_eq!((status.code, status.message.as_str()), (code, message));
        if namespace == "dying" {
            let cause = &status.details.expect("details").causes[0];
            assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
            assert_eq!(cause.message, "namespace dying is being terminated");
        }
    }
    // What is there may still change and go while its namespace is going.
    let mut new = json!({"metadata": {"name": "c", "namespace": "dying"}});
    let dying = request(&admin, "configmaps", "dying", "c");
    let old = new.clone();
    admit(&access, &dying, Operation::Update, Some(&mut new), Some(&old)).expect("an update");
    admit(&access, &dying, Operation::Delete, None, Some(&new)).expect("a delete");
    admit(&access, &request(&admin, "namespaces", "ns", "ns"), Operation::Delete, None, None).expect("a delete");

    let cases = [
        (
            json!({"serviceAccountName": "nobody"}),
            r#"pods "p" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found"#,
        ),
        (json!({"priorityClassName": "lofty"}), r#"pods "p" is forbidden: no PriorityClass with name lofty was found"#),
        (
            json!({"priorityClassName": "high", "priority": 5}),
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; \
             priority admission controller computed 1000 from the given PriorityClass name",
        ),
        (
            json!({"preemptionPolicy": "Never"}),
            "pods \"p\" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; \
             priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ];
    for (spec, message) in cases {
        assert_eq!(admitted(&registry, spec).expect_err(message), message);
    }
}

#[test]
fn a_plain_pod_gets_what_upstream_adds() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
    let pod = admitted(&cluster(), spec).expect("admitted");
    let spec = &pod["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(
        spec["tolerations"],
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ])
    );
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("a name");
    assert_eq!((name.len(), name.starts_with("kube-api-access-")), ("kube-api-access-".len() + 5, true));
    assert_eq!(
        volume["projected"],
        json!({
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ],
        })
    );
    let mount = json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    for container in [&spec["containers"][0], &spec["containers"][1], &spec["initContainers"][0]] {
        assert_eq!(container["volumeMounts"], mount);
    }
}

#[test]
fn what_a_pod_says_itself_stays() {
    let registry = cluster();
    let taken = json!([{"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    let pod = admitted(&registry, json!({"containers": [{"name": "a", "volumeMounts": taken}]})).expect("admitted");
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], taken);
    assert!(pod["spec"]["volumes"].is_null(), "nobody needs the token");
    assert!(pod["spec"].get("initContainers").is_none(), "looked for, not made");

    for (account, says, mounts) in
        [("quiet", None, false), ("quiet", Some(true), true), ("default", Some(false), false)]
    {
        let mut spec = json!({"serviceAccountName": account, "containers": [{"name": "a"}]});
        if let Some(says) = says {
            spec["automountServiceAccountToken"] = says.into();
        }
        let pod = admitted(&registry, spec).expect("admitted");
        assert_eq!(pod["spec"]["volumes"].is_array(), mounts, "{account} {says:?}");
    }

    let pod = admitted(&registry, json!({"serviceAccountName": "puller"})).expect("admitted");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
    let own = json!([{"name": "own"}]);
    let pod = admitted(&registry, json!({"serviceAccountName": "puller", "imagePullSecrets": own})).expect("admitted");
    assert_eq!(pod["spec"]["imagePullSecrets"], own);

    let forever = json!([{"operator": "Exists"}]);
    let pod = admitted(&registry, json!({"tolerations": forever})).expect("admitted");
    assert_eq!(pod["spec"]["tolerations"], forever);

    let pod = admitted(&registry, json!({"priorityClassName": "high", "priority": 1000})).expect("admitted");
    assert_eq!((&pod["spec"]["priority"], &pod["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));
}

#[test]
fn a_node_changes_its_own_only() {
    let registry = cluster();
    registry.put(pod("ns", "mine", json!({"nodeName": "n1"})));
    registry.put(pod("ns", "theirs", json!({"nodeName": "n2"})));
    let access = access(&registry);
    let node = User::system("system:node:n1", &["system:nodes"]);
    let mirror = json!({
        "metadata": {"name": "static", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1"},
    });
    let own = json!({"metadata": {"name": "n1"}});
    let other = json!({"metadata": {"name": "n2"}});
    let marked = json!({"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/team": "a"}}});
    let plain = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}});
    let cases = [
        ("pods", "", Operation::Create, Some(mirror), true),
        ("pods", "", Operation::Create, Some(plain), false),
        ("pods", "mine", Operation::Delete, None, true),
        ("pods", "theirs", Operation::Delete, None, false),
        ("pods/status", "mine", Operation::Update, Some(json!({})), true),
        ("pods/status", "theirs", Operation::Update, Some(json!({})), false),
        ("pods/eviction", "theirs", Operation::Create, Some(json!({})), false),
        ("nodes", "n1", Operation::Update, Some(own), true),
        ("nodes", "n2", Operation::Update, Some(other), false),
        ("nodes", "", Operation::Create, Some(marked), false),
        ("serviceaccounts/token", "default", Operation::Create, Some(json!({})), false),
    ];
    for (resource, name, operation, mut new, allowed) in cases {
        let namespace = if resource.starts_with("nodes") { "" } else { "ns" };
        let result = admit(&access, &request(&node, resource, namespace, name), operation, new.as_mut(), None);
        assert_eq!(result.is_ok(), allowed, "{resource} {name}: {result:?}");
    }
}

/// As upstream's `TaintNodesByCondition`.
#[test]
fn a_new_node_takes_no_pods_yet() {
    let registry = Registry::with(&[]);
    let access = access(&registry);
    let admin = User::admin();
    let (not_ready, own) = (
        json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}),
        json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"}),
    );
    let cases = [
        (json!({}), json!([not_ready])),
        (json!({"spec": {"taints": [own]}}), json!([own, not_ready])),
        (json!({"spec": {"taints": [not_ready]}}), json!([not_ready])),
    ];
    for (mut node, taints) in cases {
        admit(&access, &request(&admin, "nodes", "", ""), Operation::Create, Some(&mut node), None).expect("admitted");
        assert_eq!(node["spec"]["taints"], taints);
    }
    let mut node = json!({"metadata": {"name": "n"}, "spec": {}});
    let old = node.clone();
    admit(&access, &request(&admin, "nodes", "", "n"), Operation::Update, Some(&mut node), Some(&old))
        .expect("admitted");
    assert_eq!(node, old);
}

#[test]
fn who_asks_for_a_certificate_is_who_sends_the_request() {
    let registry = Registry::with(&[]);
    let access = access(&registry);
    let jane = User { uid: "7".into(), ..User::system("jane", &["dev"]) };
    let mut wish = json!({"spec": {"username": "root", "groups": ["system:masters"], "extra": {"a": ["b"]}}});
    let group = "certificates.k8s.io";
    let asked = Attributes { group, ..request(&jane, "certificatesigningrequests", "", "") };
    admit(&access, &asked, Operation::Create, Some(&mut wish), None).expect("admitted");
    assert_eq!(wish["spec"], json!({"username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"]}));
}
