//! Which node a pod gets, or which words it waits with. The words are those of upstream's plugins and of its `FitError`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::node::Node;
use crate::pod::PodInfo;
use crate::testing::{Fixture, both, labels, node, placed, pod, requests};

struct Case {
    name: &'static str,
    nodes: Vec<Arc<Node>>,
    placed: Vec<Arc<PodInfo>>,
    pod: Value,
    expected: &'static str,
}

fn check(cases: Vec<Case>) {
    for Case { name, nodes, placed, pod: manifest, expected } in cases {
        let outcome = Fixture::new(&nodes, &placed).outcome(&pod("new", manifest));
        assert_eq!(outcome, expected, "{name}");
    }
}

fn labelled<const N: usize>(name: &str, pairs: [(&str, &str); N]) -> Arc<Node> {
    node(name, labels(pairs))
}

fn tainted(name: &str, key: &str, effect: &str) -> Arc<Node> {
    node(name, json!({ "spec": { "taints": [{ "key": key, "value": "v", "effect": effect }] } }))
}

fn with_port(port: Value) -> Value {
    json!({ "spec": { "containers": [{ "name": "c", "image": "nginx:1", "ports": [port] }] } })
}

fn required(terms: Value) -> Value {
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
    json!({ "spec": { "affinity": { "nodeAffinity": required } } })
}

fn pod_affinity(kind: &str, app: &str, key: &str) -> Value {
    let term = json!({ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key });
    json!({ "spec": { "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } } })
}

fn spread(key: &str, skew: i32, more: Value) -> Value {
    let constraint = json!({
        "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "a" } },
    });
    both(labels([("app", "a")]), json!({ "spec": { "topologySpreadConstraints": [both(constraint, more)] } }))
}

const ZONE: &str = "topology.kubernetes.io/zone";

#[test]
fn resources() {
    let small = || node("a", json!({ "status": { "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "2" } } }));
    check(vec![
        Case { name: "no node at all", nodes: vec![], placed: vec![], pod: json!({}), expected: "no nodes" },
        Case {
            name: "it fits",
            nodes: vec![small()],
            placed: vec![],
            pod: requests(json!({ "cpu": "1" })),
            expected: "a",
        },
        Case {
            name: "more than the node has: others' going wouldn't help",
            nodes: vec![small()],
            placed: vec![],
            pod: requests(json!({ "cpu": "1001m" })),
            expected: "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                       1 Preemption is not helpful for scheduling.",
        },
        Case {
            name: "others use it: nobody of lower priority is there",
            nodes: vec![small()],
            placed: vec![placed("p", "a", requests(json!({ "memory": "600Mi" })))],
            pod: requests(json!({ "memory": "600Mi" })),
            expected: "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: \
                       1 No preemption victims found for incoming pod.",
        },
        Case {
            name: "each reason is counted, in the order of the texts",
            nodes: vec![
                small(),
                node("b", json!({ "status": { "allocatable": { "cpu": "100m", "memory": "1Mi" } } })),
                node("c", json!({ "spec": { "unschedulable": true } })),
            ],
            placed: vec![placed("p", "a", json!({})), placed("q", "a", json!({}))],
            pod: requests(json!({ "cpu": "200m", "memory": "64Mi" })),
            expected: "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, \
                       1 node(s) were unschedulable. preemption: 0/3 nodes are available: \
                       1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
        },
        Case {
            name: "extended resources and local storage",
            nodes: vec![node("a", json!({ "status": { "allocatable": { "example.com/gpu": "1" } } }))],
            placed: vec![placed("p", "a", requests(json!({ "example.com/gpu": "1" })))],
            pod: requests(json!({ "example.com/gpu": "1", "ephemeral-storage": "21Gi" })),
            expected: "0/1 nodes are available: 1 Insufficient ephemeral-storage, 1 Insufficient example.com/gpu. \
                       preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        },
        Case {
            name: "to where the most is left",
            nodes: vec![node("a", json!({})), node("b", json!({})), node("c", json!({}))],
            placed: vec![
                placed("p", "a", requests(json!({ "cpu": "1", "memory": "2Gi" }))),
                placed("q", "c", requests(json!({ "cpu": "1", "memory": "2Gi" }))),
            ],
            pod: requests(json!({ "cpu": "100m", "memory": "200Mi" })),
            expected: "b",
        },
        Case {
            name: "to where processor and memory get even",
            nodes: vec![node("a", json!({})), node("b", json!({}))],
            placed: vec![
                placed("p", "a", requests(json!({ "cpu": "2", "memory": "0" }))),
                placed("q", "b", requests(json!({ "cpu": "0", "memory": "4Gi" }))),
            ],
            pod: requests(json!({ "cpu": "1", "memory": "0" })),
            expected: "b",
        },
    ]);
}

#[test]
fn nodes_that_are_asked_for() {
    let disk =
        || vec![labelled("a", [("disk", "hdd"), ("size", "3")]), labelled("b", [("disk", "ssd"), ("size", "5")])];
    let expression = |key: &str, operator: &str, values: Value| {
        required(json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]))
    };
    let refused = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. \
                   preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let by_name = |names: Value| {
        required(json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": names }] }]))
    };
    let case = |name, pod, expected| Case { name, nodes: disk(), placed: vec![], pod, expected };
    check(vec![
        case("nodeSelector", json!({ "spec": { "nodeSelector": { "disk": "ssd" } } }), "b"),
        case("nodeSelector of none", json!({ "spec": { "nodeSelector": { "disk": "tape" } } }), refused),
        case("In", expression("disk", "In", json!(["tape", "ssd"])), "b"),
        case("NotIn", expression("disk", "NotIn", json!(["ssd"])), "a"),
        case("Exists", expression("tape", "Exists", json!([])), refused),
        case("Gt", expression("size", "Gt", json!(["3"])), "b"),
        case("Lt", expression("size", "Lt", json!(["4"])), "a"),
        case("an empty term selects nothing", required(json!([{}])), refused),
        case(
            "terms are alternatives",
            required(json!([{}, { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] }])),
            "b",
        ),
        case("by name", by_name(json!(["a"])), "a"),
        case(
            "by the name of none",
            by_name(json!(["c"])),
            "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        case(
            "by two names at once",
            required(json!([{ "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": ["a"] },
                { "key": "metadata.name", "operator": "In", "values": ["b"] },
            ] }])),
            "0/2 nodes are available: pod affinity terms conflict. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        Case {
            name: "by a name, which has no room",
            nodes: disk(),
            placed: vec![placed("p", "a", requests(json!({ "cpu": "4" })))],
            pod: both(requests(json!({ "cpu": "1" })), by_name(json!(["a"]))),
            expected: "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
                       preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
                       1 Preemption is not helpful for scheduling.",
        },
    ]);
}

#[test]
fn nodes_that_keep_pods_off() {
    let untolerated = "0/1 nodes are available: 1 node(s) had untolerated taint(s). \
                       preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let tolerating = |toleration: Value| json!({ "spec": { "tolerations": [toleration] } });
    let dedicated = || vec![tainted("a", "dedicated", "NoSchedule")];
    let case = |name, nodes, pod, expected| Case { name, nodes, placed: vec![], pod, expected };
    check(vec![
        case("NoSchedule", dedicated(), json!({}), untolerated),
        case("NoExecute", vec![tainted("a", "dedicated", "NoExecute")], json!({}), untolerated),
        case("PreferNoSchedule", vec![tainted("a", "dedicated", "PreferNoSchedule")], json!({}), "a"),
        case("rather elsewhere", vec![tainted("a", "x", "PreferNoSchedule"), node("b", json!({}))], json!({}), "b"),
        case(
            "Equal",
            dedicated(),
            tolerating(json!({ "key": "dedicated", "value": "v", "effect": "NoSchedule" })),
            "a",
        ),
        case("another value", dedicated(), tolerating(json!({ "key": "dedicated", "value": "w" })), untolerated),
        case("any value", dedicated(), tolerating(json!({ "key": "dedicated", "operator": "Exists" })), "a"),
        case(
            "another effect",
            dedicated(),
            tolerating(json!({ "key": "dedicated", "value": "v", "effect": "NoExecute" })),
            untolerated,
        ),
        case("everything", dedicated(), tolerating(json!({ "operator": "Exists" })), "a"),
        case(
            "cordoned",
            vec![node("a", json!({ "spec": { "unschedulable": true } }))],
            json!({}),
            "0/1 nodes are available: 1 node(s) were unschedulable. \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        case(
            "cordoned, tolerated",
            vec![node("a", json!({ "spec": { "unschedulable": true } }))],
            tolerating(
                json!({ "key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule" }),
            ),
            "a",
        ),
    ]);
}

#[test]
fn host_ports() {
    let taken = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. \
                 preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let tcp = json!({ "containerPort": 80, "hostPort": 8080 });
    let with = |more: Value| both(tcp.clone(), more);
    let case = |name, held: Value, wanted: Value, expected| Case {
        name,
        nodes: vec![node("a", json!({}))],
        placed: vec![placed("p", "a", with_port(held))],
        pod: with_port(wanted),
        expected,
    };
    check(vec![
        case("the same", tcp.clone(), tcp.clone(), taken),
        case("another number", tcp.clone(), with(json!({ "hostPort": 8081 })), "a"),
        case("another protocol", tcp.clone(), with(json!({ "protocol": "UDP" })), "a"),
        case("of one address, taken on all", tcp.clone(), with(json!({ "hostIP": "10.0.0.1" })), taken),
        case(
            "on all, taken of one address",
            with(json!({ "hostIP": "10.0.0.1" })),
            with(json!({ "hostIP": "0.0.0.0" })),
            taken,
        ),
        case("of two addresses", with(json!({ "hostIP": "10.0.0.1" })), with(json!({ "hostIP": "10.0.0.2" })), "a"),
        case("no host port", tcp.clone(), json!({ "containerPort": 80 }), "a"),
    ]);
}

#[test]
fn spreading() {
    let zones = || vec![labelled("a", [(ZONE, "z1")]), labelled("b", [(ZONE, "z2")]), labelled("c", [(ZONE, "z3")])];
    let app = |name: &str, on: &str| placed(name, on, labels([("app", "a")]));
    let uneven = "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints";
    let case = |name, nodes, placed, pod, expected| Case { name, nodes, placed, pod, expected };
    check(vec![
        case("to the empty zone", zones(), vec![app("p", "a"), app("q", "c")], spread(ZONE, 1, json!({})), "b"),
        case(
            "the empty zone is full",
            vec![
                labelled("a", [(ZONE, "z1")]),
                node("b", both(labels([(ZONE, "z2")]), json!({ "status": { "allocatable": { "pods": "0" } } }))),
            ],
            vec![app("p", "a")],
            spread(ZONE, 1, json!({})),
            "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints. \
             preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        ),
        case(
            "pods of others, of other namespaces, and those that end don't count",
            vec![
                labelled("a", [(ZONE, "z1")]),
                node("b", both(labels([(ZONE, "z2")]), json!({ "spec": { "unschedulable": true } }))),
            ],
            vec![
                placed("p", "a", labels([("app", "b")])),
                placed("q", "a", both(labels([("app", "a")]), json!({ "metadata": { "namespace": "other" } }))),
                placed(
                    "r",
                    "a",
                    both(
                        labels([("app", "a")]),
                        json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
                    ),
                ),
            ],
            spread(ZONE, 1, json!({})),
            "a",
        ),
        case(
            "a node without the label",
            vec![node("a", json!({}))],
            vec![],
            spread(ZONE, 1, json!({})),
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label). \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        case(
            "more domains are wanted than there are",
            vec![labelled("a", [(ZONE, "z1")])],
            vec![app("p", "a")],
            spread(ZONE, 1, json!({ "minDomains": 2 })),
            Box::leak(
                format!(
                    "{uneven}. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
                )
                .into_boxed_str(),
            ),
        ),
        case(
            "domains that the pod can't go to don't count",
            zones(),
            vec![app("p", "a")],
            both(spread(ZONE, 1, json!({})), json!({ "spec": { "nodeSelector": { ZONE: "z1" } } })),
            "a",
        ),
        case(
            "but do if they are to",
            vec![labelled("a", [(ZONE, "z1")]), labelled("b", [(ZONE, "z2")])],
            vec![app("p", "a")],
            both(
                spread(ZONE, 1, json!({ "nodeAffinityPolicy": "Ignore" })),
                json!({ "spec": { "nodeSelector": { ZONE: "z1" } } }),
            ),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
             1 node(s) didn't match pod topology spread constraints. preemption: 0/2 nodes are available: \
             1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
        ),
        case(
            "tainted domains count unless they are not to",
            vec![
                labelled("a", [(ZONE, "z1")]),
                node(
                    "b",
                    both(
                        labels([(ZONE, "z2")]),
                        json!({ "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] } }),
                    ),
                ),
            ],
            vec![app("p", "a")],
            spread(ZONE, 1, json!({ "nodeTaintsPolicy": "Honor" })),
            "a",
        ),
        case(
            "only pods of one revision count",
            vec![
                labelled("a", [(ZONE, "z1")]),
                node("b", both(labels([(ZONE, "z2")]), json!({ "spec": { "unschedulable": true } }))),
            ],
            vec![placed("p", "a", labels([("app", "a"), ("rev", "1")]))],
            both(spread(ZONE, 1, json!({ "matchLabelKeys": ["rev"] })), labels([("app", "a"), ("rev", "2")])),
            "a",
        ),
    ]);
}

#[test]
fn neighbours() {
    let zones = || vec![labelled("a", [(ZONE, "z1")]), labelled("b", [(ZONE, "z2")])];
    let app = |name: &str, on: &str, app: &str| placed(name, on, labels([("app", app)]));
    let case = |name, placed, pod, expected| Case { name, nodes: zones(), placed, pod, expected };
    check(vec![
        case("near another", vec![app("p", "b", "db")], pod_affinity("podAffinity", "db", ZONE), "b"),
        case(
            "near nobody",
            vec![],
            pod_affinity("podAffinity", "db", ZONE),
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        case("away from another", vec![app("p", "a", "db")], pod_affinity("podAntiAffinity", "db", ZONE), "b"),
        case(
            "away from all",
            vec![app("p", "a", "db"), app("q", "b", "db")],
            pod_affinity("podAntiAffinity", "db", ZONE),
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. \
             preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        ),
        case(
            "another wants to be away from it",
            vec![placed("p", "a", pod_affinity("podAntiAffinity", "web", ZONE))],
            labels([("app", "web")]),
            "b",
        ),
        case(
            "all others want to be away from it",
            vec![
                placed("p", "a", pod_affinity("podAntiAffinity", "web", ZONE)),
                placed("q", "b", pod_affinity("podAntiAffinity", "web", ZONE)),
            ],
            labels([("app", "web")]),
            "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules. \
             preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        ),
        case(
            "nodes that are in no domain",
            vec![app("p", "a", "db")],
            pod_affinity("podAffinity", "db", "rack"),
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        case(
            "nodes that are in no domain keep nobody off",
            vec![app("p", "a", "db"), app("q", "a", "x")],
            pod_affinity("podAntiAffinity", "db", "rack"),
            "b",
        ),
    ]);
    // The first of its kind has nobody to be near: any node will do.
    let first = both(labels([("app", "db")]), pod_affinity("podAffinity", "db", ZONE));
    let outcome = Fixture::new(&zones(), &[]).outcome(&pod("new", first));
    assert!(["a", "b"].contains(&outcome.as_str()), "{outcome}");
}

#[test]
fn claims() {
    let with_claim = |volume: Value| json!({ "spec": { "volumes": [both(json!({ "name": "v" }), volume)] } });
    let claim = || with_claim(json!({ "persistentVolumeClaim": { "claimName": "data" } }));
    let unhelpful = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let local = json!({
        "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ["b"] }] },
        ] } } },
    });
    let bound = json!({ "spec": { "volumeName": "pv" }, "status": { "phase": "Bound" } });
    let of_class = |class: &str| json!({ "spec": { "storageClassName": class } });
    let lost = json!({ "spec": { "volumeName": "pv" }, "status": { "phase": "Lost" } });
    let cases = [
        (
            "no such claim",
            claim(),
            None,
            None,
            format!("0/2 nodes are available: persistentvolumeclaim \"data\" not found. {unhelpful}"),
        ),
        (
            "not made yet",
            with_claim(json!({ "ephemeral": {} })),
            None,
            None,
            format!(
                "0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"new-v\". {unhelpful}"
            ),
        ),
        (
            "unbound",
            claim(),
            Some(json!({})),
            None,
            format!("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. {unhelpful}"),
        ),
        (
            "of a class that makes volumes at once",
            claim(),
            Some(of_class("now")),
            None,
            format!("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. {unhelpful}"),
        ),
        (
            "lost",
            claim(),
            Some(lost),
            None,
            format!(
                "0/2 nodes are available: persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"pv\". {unhelpful}"
            ),
        ),
        (
            "ending",
            claim(),
            Some(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })),
            None,
            format!("0/2 nodes are available: persistentvolumeclaim \"data\" is being deleted. {unhelpful}"),
        ),
        ("where the volume is", claim(), Some(bound.clone()), Some(local.clone()), "b".into()),
        (
            "bound to a volume that is gone",
            claim(),
            Some(bound.clone()),
            None,
            format!(
                "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s). {unhelpful}"
            ),
        ),
        (
            "the volume is on another node",
            both(claim(), json!({ "spec": { "nodeSelector": { "kubernetes.io/hostname": "a" } } })),
            Some(bound),
            Some(local),
            format!(
                "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, \
                 1 node(s) didn't match Pod's node affinity/selector. {unhelpful}"
            ),
        ),
        ("made where the class serves", claim(), Some(of_class("later")), None, "b".into()),
        (
            "nobody makes volumes of the class",
            claim(),
            Some(of_class("by-hand")),
            None,
            format!("0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. {unhelpful}"),
        ),
        (
            "being made for a node",
            claim(),
            Some(both(
                of_class("by-hand"),
                json!({ "metadata": { "annotations": { "volume.kubernetes.io/selected-node": "a" } } }),
            )),
            None,
            "a".into(),
        ),
    ];
    for (name, manifest, claim, volume, expected) in cases {
        let mut fixture = Fixture::new(&[node("a", json!({})), node("b", json!({}))], &[]);
        let storage = &mut fixture.cache.others.storage;
        let key = |namespace: &str, name: &str| tug_api::ObjectKey::new(namespace, name);
        let later = json!({
            "provisioner": "tug.io/local-path", "volumeBindingMode": "WaitForFirstConsumer",
            "allowedTopologies": [{ "matchLabelExpressions": [{ "key": "kubernetes.io/hostname", "values": ["b"] }] }],
        });
        let by_hand =
            json!({ "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer" });
        let now = json!({ "provisioner": "tug.io/local-path", "volumeBindingMode": "Immediate" });
        for (class, manifest) in [("later", later), ("by-hand", by_hand), ("now", now)] {
            storage.put_class(&key("", class), &serde_json::from_value(manifest).expect("a class"));
        }
        if let Some(claim) = claim {
            storage.put_claim(&key("default", "data"), &serde_json::from_value(claim).expect("a claim"));
        }
        if let Some(volume) = volume {
            storage.put_volume(&key("", "pv"), &serde_json::from_value(volume).expect("a volume"));
        }
        assert_eq!(fixture.outcome(&pod("new", manifest)), expected, "{name}");
    }
}

/// The filter that stops a pod on each node is who turned it away, which is what wakes it later.
#[test]
fn who_turned_it_away() {
    let nodes = [
        node("a", json!({ "spec": { "unschedulable": true } })),
        node("b", json!({ "status": { "allocatable": { "cpu": "1" } } })),
        tainted("c", "k", "NoSchedule"),
    ];
    let mut fixture = Fixture::new(&nodes, &[]);
    let plugins = fixture.turned_away_by(&pod("new", requests(json!({ "cpu": "2" }))));
    assert_eq!(plugins, ["NodeUnschedulable", "TaintToleration", "NodeResourcesFit"]);
}

/// Upstream's `TestNumFeasibleNodesToFind`.
#[test]
fn so_many_nodes_are_enough() {
    let cases = [
        (0, 10, 10),
        (40, 10, 10),
        (0, 1000, 420),
        (40, 1000, 400),
        (0, 6000, 300),
        (40, 6000, 2400),
        (0, 100, 100),
        (5, 1000, 100),
    ];
    for (percentage, nodes, expected) in cases {
        assert_eq!(super::Scheduling::new(percentage, 1).enough(nodes), expected, "{percentage} of {nodes}");
    }
}

/// Where only a part of the nodes is looked at, each has its turn.
#[test]
fn each_node_has_its_chance() {
    let nodes: Vec<_> = (0..200).map(|index| node(&format!("node-{index}"), json!({}))).collect();
    let mut fixture = Fixture::new(&nodes, &[]);
    let mut used = BTreeSet::new();
    for index in 0..200 {
        let pod = pod(&format!("pod-{index}"), requests(json!({ "cpu": "3" })));
        let super::Verdict::Node(slot) = fixture.schedule(&pod) else { panic!("pod {index} fits nowhere") };
        fixture.cache.assume(pod, slot);
        used.insert(slot);
    }
    assert_eq!(used.len(), 200, "each node has room for one");
}

/// Nodes are tried zone by turns, so that the first ones found are of several zones.
#[test]
fn zones_take_turns() {
    let zone = |name: &str, zone: &str| labelled(name, [(ZONE, zone)]);
    let nodes = [zone("a", "1"), zone("b", "1"), zone("c", "1"), zone("d", "2"), zone("e", "3"), zone("f", "3")];
    let mut fixture = Fixture::new(&nodes, &[]);
    let order: Vec<_> = fixture.cache.nodes().to_vec();
    let names: Vec<_> = order.iter().map(|slot| fixture.cache.node(*slot).name.as_str()).collect();
    assert_eq!(names, ["a", "d", "e", "b", "f", "c"]);
}
