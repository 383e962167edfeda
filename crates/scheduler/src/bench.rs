//! How fast pods find their nodes in a large cluster, without an API. Run with
//! `cargo test --release -p tug-scheduler -- --ignored --nocapture bench`.

use std::sync::Arc;

use serde_json::{Value, json};
use tug_api::ObjectKey;

use crate::cycle::Verdict;
use crate::node::Node;
use crate::pod::PodInfo;
use crate::testing::{Fixture, both, labels, node, placed, pod, requests};

const NODES: usize = 5_000;
const PODS_PER_NODE: usize = 29;
const ZONES: usize = 3;
const APPS: usize = 500;

fn small(more: Value) -> Value {
    both(requests(json!({ "cpu": "100m", "memory": "128Mi" })), more)
}

/// Parsing manifests isn't what is measured.
fn copy(template: &PodInfo, name: &str, node_name: Option<String>) -> Arc<PodInfo> {
    let key = ObjectKey::new("default", name);
    Arc::new(PodInfo { key, uid: name.into(), node_name, ..template.clone() })
}

/// Of this thread on a processor: others may be busy too.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).expect("a number") / 1e9
}

fn cluster() -> Fixture {
    let one = |index: usize| -> Arc<Node> {
        let zone = format!("zone-{}", index % ZONES);
        let size = json!({ "status": { "allocatable": { "cpu": "64", "memory": "256Gi", "pods": "250" } } });
        node(&format!("node-{index}"), both(labels([("topology.kubernetes.io/zone", &zone)]), size))
    };
    let nodes: Vec<_> = (0..NODES).map(one).collect();
    let mut fixture = Fixture::new(&nodes, &[]);
    let template = |index: usize| {
        let app = format!("app-{index}");
        placed("p", "node", small(labels([("app", &app), ("pod-template-hash", "5d59d67564")])))
    };
    let templates: Vec<_> = (0..APPS).map(template).collect();
    for index in 0..NODES * PODS_PER_NODE {
        let node = Some(format!("node-{}", index % NODES));
        fixture.cache.put_pod(copy(&templates[index % APPS], &format!("pod-{index}"), node));
    }
    fixture
}

/// Schedules so many pods like this one; prints how many a second.
fn measure(fixture: &mut Fixture, what: &str, count: usize, manifest: &Value) {
    let template = pod("p", manifest.clone());
    let pods: Vec<Arc<PodInfo>> = (0..count).map(|at| copy(&template, &format!("{what}-{at}"), None)).collect();
    let begin = processor_time();
    for pod in &pods {
        let Verdict::Node(slot) = fixture.schedule(pod) else { panic!("{what} fits nowhere") };
        fixture.cache.assume(pod.clone(), slot);
    }
    let rate = count as f64 / (processor_time() - begin);
    println!("{what}: {rate:.0} pods/s");
    for pod in &pods {
        fixture.cache.forget(&pod.uid);
    }
}

fn constraint(key: &str, action: &str) -> Value {
    json!({
        "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action,
        "labelSelector": { "matchLabels": { "app": "new" } },
    })
}

#[test]
#[ignore = "a measurement"]
fn bench() {
    let begin = processor_time();
    let mut fixture = cluster();
    println!("{} pods on {NODES} nodes, filled in {:.1} s", NODES * PODS_PER_NODE, processor_time() - begin);
    let app = labels([("app", "new")]);
    measure(&mut fixture, "plain", 5_000, &small(app.clone()));

    let service = tug_api::Selector::parse("app=new").expect("a selector");
    fixture.cache.others.services.entry("default".into()).or_default().insert("s".into(), service);
    measure(&mut fixture, "of a Service", 2_000, &small(app.clone()));
    fixture.cache.others.services.clear();

    let spread =
        |constraints: Value| small(both(app.clone(), json!({ "spec": { "topologySpreadConstraints": constraints } })));
    let zones = spread(json!([constraint("topology.kubernetes.io/zone", "DoNotSchedule")]));
    measure(&mut fixture, "spread over zones", 1_000, &zones);
    let hosts = spread(json!([constraint("kubernetes.io/hostname", "DoNotSchedule")]));
    measure(&mut fixture, "spread over nodes", 1_000, &hosts);

    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "new" } } });
    let anti = json!({ "spec": { "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
    } } } });
    measure(&mut fixture, "each on its own node", 1_000, &small(both(app.clone(), anti)));
    let near = json!({ "spec": { "affinity": { "podAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 10, "podAffinityTerm": term }],
    } } } });
    measure(&mut fixture, "rather together", 1_000, &small(both(app, near)));

    let big = small(requests(json!({ "cpu": "100" })));
    let big = pod("big", big);
    let begin = processor_time();
    for _ in 0..100 {
        let Verdict::Unfit(diagnosis) = fixture.schedule(&big) else { panic!("it fits") };
        assert!(diagnosis.to_string().starts_with("0/5000 nodes are available"));
    }
    println!("fits nowhere: {:.0} pods/s", 100.0 / (processor_time() - begin));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
}
