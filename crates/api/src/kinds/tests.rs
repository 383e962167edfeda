//! What holds for every entry of the table.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::all;

#[test]
fn entries_are_whole_and_unique() {
    let mut seen = BTreeSet::new();
    for kind in all() {
        let name = format!("{}/{} {}", kind.group, kind.version, kind.kind);
        assert!(seen.insert((kind.group, kind.version, kind.plural)), "{name} is there twice");
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty() && !kind.verbs.is_empty(), "{name}");
        assert_eq!(kind.singular, kind.kind.to_lowercase(), "{name}");
        assert!(kind.verbs.is_sorted(), "{name}: discovery lists verbs in order");
        assert!(kind.subresources.is_sorted_by_key(|sub| sub.name), "{name}: and subresources");
        let mut generator = SchemaGenerator::default();
        let schema = (kind.schema)(&mut generator);
        let reference = schema.as_value()["$ref"].as_str().unwrap_or_default();
        assert!(reference.ends_with(&format!("{}.{}", kind.version, kind.kind)), "{name}: {reference}");
    }
}

/// Upstream's server lists these (`kubectl api-resources` of 1.36 with stable APIs only).
#[test]
fn every_stable_kind_is_served() {
    let count = |group: &str| all().iter().filter(|kind| kind.group == group).count();
    let groups = [
        ("", 17),
        ("admissionregistration.k8s.io", 6),
        ("apiextensions.k8s.io", 1),
        ("apiregistration.k8s.io", 1),
        ("apps", 5),
        ("authentication.k8s.io", 2),
        ("authorization.k8s.io", 4),
        ("autoscaling", 2),
        ("batch", 2),
        ("certificates.k8s.io", 1),
        ("coordination.k8s.io", 1),
        ("discovery.k8s.io", 1),
        ("events.k8s.io", 1),
        ("flowcontrol.apiserver.k8s.io", 2),
        ("networking.k8s.io", 5),
        ("node.k8s.io", 1),
        ("policy", 1),
        ("rbac.authorization.k8s.io", 4),
        ("resource.k8s.io", 4),
        ("scheduling.k8s.io", 1),
        ("storage.k8s.io", 6),
    ];
    for (group, kinds) in groups {
        assert_eq!(count(group), kinds, "{group}");
    }
    assert_eq!(all().len(), groups.iter().map(|(_, kinds)| kinds).sum::<usize>());
}

/// Values that no schema would let through, and none of which may make the table's functions panic.
fn odd_objects() -> Vec<Value> {
    let odd = [json!(null), json!(7), json!("x"), json!([]), json!([1, "x", null, [], {}]), json!({})];
    let mut objects: Vec<Value> = odd.to_vec();
    let keys =
        ["metadata", "spec", "status", "data", "rules", "subsets", "webhooks", "template", "roleRef", "subjects"];
    for value in &odd {
        objects.extend(keys.iter().map(|key| json!({*key: value})));
        let fields =
            ["containers", "template", "ports", "selector", "versions", "volumes", "limits", "names", "jobTemplate"];
        objects.extend(fields.iter().map(|key| json!({"spec": {*key: value}})));
        for list in ["containers", "ports", "volumes", "limits", "rules", "metrics"] {
            let inner = ["name", "ports", "env", "resources", "port", "nodePort", "secret", "http", "type", "resource"];
            objects.extend(inner.iter().map(|key| json!({"spec": {list: [{*key: value}, value]}})));
        }
    }
    objects
}

#[test]
fn nothing_panics_and_defaults_settle() {
    let objects = odd_objects();
    for kind in all() {
        for object in &objects {
            let mut made = object.clone();
            (kind.prepare)(&mut made, None);
            (kind.prepare)(&mut made, Some(object));
            (kind.default)(&mut made);
            let once = made.clone();
            (kind.default)(&mut made);
            assert_eq!(made, once, "{}: defaults set twice are as set once, of {object}", kind.kind);
            (kind.validate)(&made, None);
            (kind.validate)(&made, Some(object));
            let cells = (kind.row)(&made, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), kind.columns.len(), "{}", kind.kind);
            let fields: Vec<&str> = (kind.selectable)(&made).into_iter().map(|(name, _)| name).collect();
            assert!(kind.selectable_names.iter().all(|name| fields.contains(name)), "{}: {fields:?}", kind.kind);
        }
    }
}

/// One small object of every kind that defaults do something to.
fn samples() -> Vec<Value> {
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {
            "containers": [{
                "name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
                "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 80}},
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                "resources": {"limits": {"cpu": "1"}},
                "volumeMounts": [{"name": "e", "mountPath": "/e"}],
            }],
            "initContainers": [{"name": "i", "image": "busybox"}],
            "serviceAccount": "x",
            "volumes": [
                {"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "p", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]}},
                {"name": "m", "image": {"reference": "nginx"}},
                {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                }}}},
            ],
        },
    });
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let selector = json!({"matchLabels": {"app": "a"}});
    let workload = json!({"selector": selector, "template": template});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut stateful = workload.clone();
    stateful["serviceName"] = "s".into();
    stateful["volumeClaimTemplates"] = json!([{"metadata": {"name": "d"}, "spec": claim}]);
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    });
    let webhook = json!({
        "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule],
        "clientConfig": {"service": {"namespace": "n", "name": "s"}},
    });
    let device = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let of = |version: &str, kind: &str, spec: Value| {
        json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}, "spec": spec,
        })
    };
    let plain = |version: &str, kind: &str, fields: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}});
        for (key, value) in fields.as_object().expect("fields") {
            object[key] = value.clone();
        }
        object
    };
    let mut job = of("batch/v1", "Job", json!({"template": once}));
    job["metadata"]["uid"] = "0b8a4f0e".into();
    vec![
        of("v1", "Pod", template["spec"].clone()),
        plain("v1", "PodTemplate", json!({"template": template})),
        of("v1", "ReplicationController", json!({"template": template})),
        of("v1", "Service", json!({"type": "LoadBalancer", "ports": [{"port": 80}]})),
        of("v1", "Service", json!({"sessionAffinity": "ClientIP", "clusterIP": "None"})),
        of("v1", "Namespace", json!({})),
        of("v1", "Node", json!({})),
        of("v1", "PersistentVolumeClaim", claim.clone()),
        of(
            "v1",
            "PersistentVolume",
            json!({
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
            }),
        ),
        of("v1", "LimitRange", json!({"limits": [{"type": "Container", "max": {"cpu": "1"}}]})),
        of("v1", "ResourceQuota", json!({"hard": {"pods": "1"}})),
        plain("v1", "ConfigMap", json!({"data": {"a": "b"}})),
        plain("v1", "Secret", json!({"stringData": {"a": "b"}})),
        plain("v1", "ServiceAccount", json!({})),
        plain("v1", "Endpoints", json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]})),
        plain("v1", "Event", json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"}})),
        of("apps/v1", "Deployment", workload.clone()),
        of("apps/v1", "ReplicaSet", workload.clone()),
        of("apps/v1", "DaemonSet", workload.clone()),
        of("apps/v1", "StatefulSet", stateful),
        plain("apps/v1", "ControllerRevision", json!({"data": {}, "revision": 1})),
        job,
        of("batch/v1", "CronJob", json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}})),
        of(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({
                "scaleTargetRef": target, "maxReplicas": 2, "behavior": {"scaleUp": {}, "scaleDown": {}},
            }),
        ),
        of("autoscaling/v1", "HorizontalPodAutoscaler", json!({"scaleTargetRef": target, "maxReplicas": 2})),
        of(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"defaultBackend": {
                "service": {"name": "s", "port": {"number": 80}},
            }}),
        ),
        of(
            "networking.k8s.io/v1",
            "IngressClass",
            json!({
                "controller": "a.b/c", "parameters": {"kind": "K", "name": "k"},
            }),
        ),
        of("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]})),
        of("policy/v1", "PodDisruptionBudget", json!({"minAvailable": 1, "selector": selector})),
        plain(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({
                "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
            }),
        ),
        of("coordination.k8s.io/v1", "Lease", json!({"leaseDurationSeconds": 40})),
        plain("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1})),
        plain("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "p"})),
        of("storage.k8s.io/v1", "CSIDriver", json!({})),
        plain("node.k8s.io/v1", "RuntimeClass", json!({"handler": "h"})),
        plain(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({
                "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}],
            }),
        ),
        plain("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", json!({"webhooks": [webhook]})),
        plain("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", json!({"webhooks": [webhook]})),
        of(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({
                "matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}],
            }),
        ),
        of("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", json!({"priorityLevelConfiguration": {"name": "l"}})),
        of(
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({
                "type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}},
            }),
        ),
        of("resource.k8s.io/v1", "ResourceClaim", device.clone()),
        of("resource.k8s.io/v1", "ResourceClaimTemplate", json!({"spec": device})),
    ]
}

#[test]
fn defaults_are_fields_of_the_kind_and_pass_its_checks() {
    for sample in samples() {
        let version = sample["apiVersion"].as_str().expect("a version");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = super::by_kind(group, version, sample["kind"].as_str().expect("a kind")).expect("a kind");
        let mut object = sample.clone();
        (kind.default)(&mut object);
        (kind.prepare)(&mut object, None);
        (kind.default)(&mut object);
        let made = object.clone();
        let checked = crate::schema::check(kind, &mut object);
        assert_eq!(checked.type_error, None, "{made}");
        assert_eq!(checked.unknown, Vec::<String>::new(), "{made}");
        assert_eq!(object, made, "{}: its decoder keeps what defaults made", kind.kind);
        assert_eq!((kind.validate)(&made, None), [], "{made}");
        assert_eq!((kind.validate)(&made, Some(&made)), [], "{made}");
    }
}
