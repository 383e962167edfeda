//! How nodes are scored: tables of upstream's tests of each plugin, with upstream's numbers.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::node::Node;
use crate::pod::PodInfo;
use crate::testing::{Fixture, both, labels, node, placed, pod};

fn sized(name: &str, cpu: &str, memory: &str) -> Arc<Node> {
    node(name, json!({ "status": { "allocatable": { "cpu": cpu, "memory": memory } } }))
}

fn containers(requests: &[Value]) -> Value {
    let container = |requests: &Value| json!({ "name": "c", "resources": { "requests": requests } });
    json!({ "spec": { "containers": requests.iter().map(container).collect::<Vec<_>>() } })
}

fn both_kinds(cpu: &str, memory: &str) -> Value {
    json!({ "cpu": cpu, "memory": memory })
}

/// Upstream's `TestLeastAllocatedScoringStrategy`.
#[test]
fn least_allocated() {
    let five = || containers(&[both_kinds("1", "2000"), both_kinds("2", "3000")]);
    let on = |name: &str, node: &str, memory: &str| placed(name, node, containers(&[both_kinds("3", memory)]));
    let wide = || [sized("a", "10", "20000"), sized("b", "10", "20000")];
    let cases = [
        ("differently sized nodes", [sized("a", "4", "10000"), sized("b", "6", "10000")], vec![], five(), [37, 50]),
        ("pods with requests", wide(), vec![on("p", "a", "0"), on("q", "b", "5000")], five(), [57, 45]),
        (
            "both",
            [sized("a", "10", "20000"), sized("b", "10", "50000")],
            vec![on("p", "a", "0"), on("q", "b", "5000")],
            five(),
            [57, 60],
        ),
        (
            "more than there is",
            [sized("a", "4", "10000"), sized("b", "4", "10000")],
            vec![on("p", "a", "0"), on("q", "b", "5000")],
            containers(&[both_kinds("3", "0")]),
            [50, 25],
        ),
        (
            "nodes that have nothing",
            [sized("a", "0", "0"), sized("b", "0", "0")],
            vec![on("p", "a", "0"), on("q", "b", "5000")],
            json!({}),
            [0, 0],
        ),
    ];
    for (name, nodes, placed, manifest, expected) in cases {
        let scores = Fixture::new(&nodes, &placed).scores("NodeResourcesFit", &pod("new", manifest));
        assert_eq!(scores.as_deref(), Some(&expected[..]), "{name}");
    }
}

/// Upstream's `TestNodeResourcesBalancedAllocation`.
#[test]
fn balanced_allocation() {
    let five = || containers(&[both_kinds("1", "2000"), both_kinds("2", "3000")]);
    let cpu = |name: &str, node: &str| placed(name, node, containers(&[json!({ "cpu": "1" }), json!({ "cpu": "2" })]));
    let all = |name: &str, node: &str| placed(name, node, five());
    let memory = || containers(&[json!({ "memory": "2000" }), json!({ "memory": "3000" })]);
    let cases = [
        ("nothing requested", [sized("a", "4", "10000"), sized("b", "4", "10000")], vec![], json!({}), None),
        (
            "differently sized nodes",
            [sized("a", "4", "10000"), sized("b", "6", "10000")],
            vec![],
            five(),
            Some([68, 75]),
        ),
        (
            "pods with requests",
            [sized("a", "10", "20000"), sized("b", "10", "20000")],
            vec![cpu("p", "a"), all("q", "b")],
            five(),
            Some([73, 74]),
        ),
        (
            "both",
            [sized("a", "10", "20000"), sized("b", "10", "50000")],
            vec![cpu("p", "a"), all("q", "b")],
            five(),
            Some([73, 70]),
        ),
        (
            "from worst to best",
            [sized("a", "3", "5000"), sized("b", "3", "5000")],
            vec![cpu("p", "a")],
            memory(),
            Some([100, 50]),
        ),
        (
            "to the brim",
            [sized("a", "6", "10000"), sized("b", "6", "10000")],
            vec![cpu("p", "a"), all("q", "b")],
            containers(&[json!({ "cpu": "1" }), json!({ "cpu": "2" })]),
            Some([62, 62]),
        ),
    ];
    for (name, nodes, placed, manifest, expected) in cases {
        let scores = Fixture::new(&nodes, &placed).scores("NodeResourcesBalancedAllocation", &pod("new", manifest));
        assert_eq!(scores, expected.map(Vec::from), "{name}");
    }
}

/// Upstream's `TestImageLocalityPriority`.
#[test]
fn image_locality() {
    const MB: i64 = 1024 * 1024;
    let with = |name: &str, sizes: &[i64]| {
        let image = |size: &i64| json!({ "names": [format!("gcr.io/{size}:latest")], "sizeBytes": size * MB });
        node(name, json!({ "status": { "images": sizes.iter().map(image).collect::<Vec<_>>() } }))
    };
    let running = |sizes: &[i64]| -> Vec<Value> {
        sizes.iter().map(|size| json!({ "name": "c", "image": format!("gcr.io/{size}") })).collect()
    };
    let of = |sizes: &[i64]| json!({ "spec": { "containers": running(sizes) } });
    let (a, b, c) = (&[40, 300, 2000][..], &[250, 10][..], &[4000, 30][..]);
    type Case<'a> = (&'a str, Value, Vec<&'a [i64]>, Vec<i64>);
    let cases: Vec<Case<'_>> = vec![
        ("the larger image", of(&[40, 250]), vec![a, b], vec![0, 5]),
        ("both images", of(&[40, 300]), vec![a, b], vec![7, 0]),
        ("no more than the most", of(&[4000, 10]), vec![c, b], vec![100, 0]),
        ("an image of few nodes counts less", of(&[4000, 10]), vec![c, b, &[]], vec![66, 0, 0]),
        ("many large images", of(&[300, 600, 900]), vec![&[600, 40, 900], &[300, 600, 900], &[]], vec![32, 36, 0]),
        ("small images", of(&[30, 40]), vec![&[20, 30, 40], c], vec![1, 0]),
        (
            "an image as a volume",
            both(
                of(&[30]),
                json!({ "spec": { "volumes": [{ "name": "v", "image": { "reference": "gcr.io/300" } }] } }),
            ),
            vec![&[300, 600, 900], c],
            vec![12, 0],
        ),
        (
            "init containers",
            both(of(&[30]), json!({ "spec": { "initContainers": running(&[300]) } })),
            vec![a, &[20, 30, 40]],
            vec![6, 0],
        ),
    ];
    for (name, manifest, nodes, expected) in cases {
        let nodes: Vec<_> = nodes.iter().enumerate().map(|(at, sizes)| with(&format!("node-{at}"), sizes)).collect();
        let scores = Fixture::new(&nodes, &[]).scores("ImageLocality", &pod("new", manifest));
        assert_eq!(scores, Some(expected), "{name}");
    }
}

/// Upstream's `TestTaintTolerationScore`.
#[test]
fn taints_that_prefer_not() {
    let prefer = |key: &str| json!({ "key": key, "value": "x", "effect": "PreferNoSchedule" });
    let with = |name: &str, taints: Value| node(name, json!({ "spec": { "taints": taints } }));
    let no_schedule = json!([{ "key": "k", "value": "x", "effect": "NoSchedule" }]);
    let cases = [
        (
            "one is tolerated",
            json!([prefer("foo")]),
            vec![json!([prefer("foo")]), json!([prefer("bar")])],
            vec![100, 0],
        ),
        (
            "all are",
            json!([prefer("a"), prefer("b")]),
            vec![json!([]), json!([prefer("a")]), json!([prefer("a"), prefer("b")])],
            vec![100, 100, 100],
        ),
        (
            "the more the worse",
            json!([]),
            vec![json!([]), json!([prefer("a")]), json!([prefer("a"), prefer("b")])],
            vec![100, 50, 0],
        ),
        ("others don't count", json!([]), vec![json!([]), no_schedule, json!([prefer("a")])], vec![100, 100, 0]),
    ];
    for (name, tolerations, taints, expected) in cases {
        let nodes: Vec<_> =
            taints.into_iter().enumerate().map(|(at, taints)| with(&format!("node-{at}"), taints)).collect();
        let pod = pod("new", json!({ "spec": { "tolerations": tolerations } }));
        assert_eq!(Fixture::new(&nodes, &[]).scores("TaintToleration", &pod), Some(expected), "{name}");
    }
}

#[test]
fn preferred_nodes() {
    let term = |weight: i32, key: &str| json!({ "weight": weight, "preference": { "matchExpressions": [{ "key": key, "operator": "Exists" }] } });
    let preferred =
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [term(4, "a"), term(1, "b"), term(2, "c")] });
    let pod = pod("new", json!({ "spec": { "affinity": { "nodeAffinity": preferred } } }));
    let nodes = [node("1", labels([("a", ""), ("b", "")])), node("2", labels([("c", "")])), node("3", json!({}))];
    // The weights of what matches, of a hundred for the most: 5, 2 and 0.
    assert_eq!(Fixture::new(&nodes, &[]).scores("NodeAffinity", &pod), Some(vec![100, 40, 0]));
}

/// So many pods with label `foo` on each of `nodes`, and one of those without.
fn foos(nodes: &[(&str, usize)]) -> Vec<Arc<PodInfo>> {
    let some = nodes.iter().flat_map(|(node, count)| (0..*count).map(move |at| (format!("{node}-{at}"), *node)));
    some.map(|(name, node)| placed(&name, node, labels([("foo", "")]))).collect()
}

fn soft(constraints: &[(i32, &str, &str)]) -> Value {
    let constraint = |(skew, key, label): &(i32, &str, &str)| {
        json!({
            "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchExpressions": [{ "key": label, "operator": "Exists" }] },
        })
    };
    let constraints: Vec<_> = constraints.iter().map(constraint).collect();
    both(labels([("foo", ""), ("bar", "")]), json!({ "spec": { "topologySpreadConstraints": constraints } }))
}

const HOST: &str = "kubernetes.io/hostname";

/// Upstream's `TestPodTopologySpreadScore`, the cases in which all nodes are candidates.
#[test]
fn spreading_scores() {
    let hosts =
        |count: usize| ["a", "b", "c", "d"][..count].iter().map(|name| node(name, json!({}))).collect::<Vec<_>>();
    let zoned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, zone)| node(name, labels([("zone", zone)]))).collect::<Vec<_>>()
    };
    let steps = || foos(&[("a", 4), ("b", 3), ("c", 2), ("d", 1)]);
    let uneven = || foos(&[("a", 2), ("b", 1), ("d", 3)]);
    let cases = [
        ("no pods yet", hosts(2), vec![], soft(&[(1, HOST, "foo")]), vec![100, 100]),
        ("as many everywhere", hosts(2), foos(&[("a", 1), ("b", 1)]), soft(&[(1, HOST, "foo")]), vec![100, 100]),
        ("2/1/0/3", hosts(4), uneven(), soft(&[(1, HOST, "foo")]), vec![20, 60, 100, 0]),
        ("2/1/0/3, two more are nothing", hosts(4), uneven(), soft(&[(2, HOST, "foo")]), vec![33, 66, 100, 16]),
        ("4/3/2/1, three more are nothing", hosts(4), steps(), soft(&[(3, HOST, "foo")]), vec![44, 66, 77, 100]),
        (
            "zones of two nodes",
            zoned(&[("a", "1"), ("b", "1"), ("x", "2"), ("y", "2")]),
            foos(&[("a", 4), ("b", 2), ("x", 1), ("y", 3)]),
            soft(&[(1, "zone", "foo")]),
            vec![75, 75, 100, 100],
        ),
        (
            "a node that is in no zone",
            vec![node("a", labels([("zone", "1")])), node("b", json!({})), node("x", labels([("zone", "2")]))],
            foos(&[("a", 4), ("b", 2), ("x", 1)]),
            soft(&[(1, "zone", "foo")]),
            vec![16, 0, 100],
        ),
        (
            "zones and nodes, each of their own pods",
            zoned(&[("a", "1"), ("b", "1"), ("x", "2"), ("y", "2")]),
            vec![
                placed("p", "a", labels([("foo", "")])),
                placed("q", "b", labels([("foo", ""), ("bar", "")])),
                placed("r", "y", labels([("foo", "")])),
                placed("s", "y", labels([("bar", "")])),
            ],
            soft(&[(1, "zone", "foo"), (1, HOST, "bar")]),
            vec![60, 20, 100, 60],
        ),
    ];
    for (name, nodes, placed, manifest, expected) in cases {
        let scores = Fixture::new(&nodes, &placed).scores("PodTopologySpread", &pod("new", manifest));
        assert_eq!(scores, Some(expected), "{name}");
    }
}

/// Pods of a Service or a workload spread without saying so: three more on a node, five in a zone are nothing.
#[test]
fn spreading_by_the_system() {
    let nodes: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| node(name, json!({}))).collect();
    let placed = foos(&[("a", 4), ("b", 3), ("c", 2), ("d", 1)]);
    let foo = || tug_api::Selector::parse("foo=").expect("a selector");
    let controlled = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true },
    ] } });
    let stranger = pod("new", json!({}));
    let (in_service, in_set) = (pod("new", labels([("foo", "")])), pod("new", controlled));

    let mut fixture = Fixture::new(&nodes, &placed);
    assert_eq!(fixture.scores("PodTopologySpread", &in_service), None);
    fixture.cache.others.services.entry("default".into()).or_default().insert("s".into(), foo());
    assert_eq!(fixture.scores("PodTopologySpread", &in_service), Some(vec![44, 66, 77, 100]));
    assert_eq!(fixture.scores("PodTopologySpread", &stranger), None);
    let sets = fixture.cache.others.workloads.entry("ReplicaSet").or_default();
    sets.entry("default".into()).or_default().insert("rs".into(), foo());
    assert_eq!(fixture.scores("PodTopologySpread", &in_set), Some(vec![44, 66, 77, 100]));
}

/// Upstream's `TestPreferredAffinity` and `TestPreferredAffinityWithHardPodAffinitySymmetricWeight`.
#[test]
fn preferred_neighbours() {
    let region = |name: &str, region: &str| node(name, labels([("region", region)]));
    let az = |name: &str, az: &str| node(name, labels([("az", az)]));
    let regions = || vec![region("1", "China"), region("2", "India"), az("3", "az1")];
    let of = |name: &str, node: &str, security: &str| placed(name, node, labels([("security", security)]));
    let term = |values: &str, key: &str| json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "security": values } } });
    let preferring = |kind: &str, terms: Value| json!({ "spec": { "affinity": { kind: { "preferredDuringSchedulingIgnoredDuringExecution": terms } } } });
    let near = |weight: i32, security: &str| {
        preferring("podAffinity", json!([{ "weight": weight, "podAffinityTerm": term(security, "region") }]))
    };
    let far = |security: &str| {
        preferring("podAntiAffinity", json!([{ "weight": 5, "podAffinityTerm": term(security, "az") }]))
    };
    let required = json!({ "spec": { "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term("S1", "region")] } } } });
    let s = |security: &str| labels([("security", security)]);
    let with =
        |name: &str, node: &str, security: &str, affinity: Value| placed(name, node, both(s(security), affinity));

    let cases = [
        ("nobody prefers anything", regions(), vec![], s("S1"), None),
        (
            "near S1",
            regions(),
            vec![of("p", "1", "S1"), of("q", "2", "S2"), of("r", "3", "S1")],
            both(s("S1"), near(5, "S1")),
            Some(vec![100, 0, 0]),
        ),
        (
            "a whole region",
            vec![region("1", "China"), node("2", labels([("region", "China"), ("az", "az1")])), region("3", "India")],
            vec![of("p", "1", "S1")],
            near(5, "S1"),
            Some(vec![100, 100, 0]),
        ),
        (
            "where there are more of them",
            vec![region("1", "China"), region("2", "India"), region("3", "China")],
            vec![of("p", "1", "S2"), of("q", "1", "S2"), of("r", "2", "S2"), of("s", "3", "S2")],
            near(6, "S2"),
            Some(vec![100, 0, 100]),
        ),
        (
            "where others want it",
            regions(),
            vec![with("p", "1", "S1", near(5, "S1")), with("q", "2", "S2", near(6, "S2"))],
            s("S2"),
            Some(vec![0, 100, 0]),
        ),
        (
            "where others need it",
            regions(),
            vec![with("p", "1", "S1", required.clone()), with("q", "2", "S2", required)],
            s("S1"),
            Some(vec![100, 100, 0]),
        ),
        (
            "far from S1",
            vec![az("1", "az1"), region("2", "China")],
            vec![of("p", "1", "S1"), of("q", "2", "S2")],
            both(s("S1"), far("S1")),
            Some(vec![0, 100]),
        ),
        (
            "where others don't mind it",
            vec![az("1", "az1"), az("2", "az2")],
            vec![with("p", "1", "S1", far("S2")), with("q", "2", "S2", far("S1"))],
            s("S2"),
            Some(vec![0, 100]),
        ),
    ];
    for (name, nodes, placed, manifest, expected) in cases {
        let scores = Fixture::new(&nodes, &placed).scores("InterPodAffinity", &pod("new", manifest));
        assert_eq!(scores, expected, "{name}");
    }
}

/// Namespaces by their labels: a pod's terms, and those of others about it.
#[test]
fn neighbours_of_selected_namespaces() {
    let term = json!({
        "topologyKey": HOST, "labelSelector": {}, "namespaceSelector": { "matchLabels": { "team": "a" } },
    });
    let required = |kind: &str| json!({ "spec": { "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } } });
    let of = |namespace: &str| json!({ "metadata": { "namespace": namespace } });
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let team = |fixture: &mut Fixture| {
        let labels = [("team".to_owned(), "a".to_owned())].into();
        fixture.cache.others.namespaces.insert("ours".into(), labels);
        fixture.cache.others.namespaces.insert("theirs".into(), [].into());
    };
    let mut near = Fixture::new(&nodes, &[placed("p", "a", of("ours")), placed("q", "b", of("theirs"))]);
    team(&mut near);
    assert_eq!(near.outcome(&pod("new", required("podAffinity"))), "a");
    let mut far = Fixture::new(&nodes, &[placed("p", "a", required("podAntiAffinity"))]);
    team(&mut far);
    assert_eq!(far.outcome(&pod("new", of("ours"))), "b");
}
