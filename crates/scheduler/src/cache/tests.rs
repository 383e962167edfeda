//! What is kept by changes is what a count from the beginning would give.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tug_api::Selector;

use super::Cache;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::testing::{both, labels, node, placed, pod, requests};

/// As it would be if the pods had come one after another to an empty node.
fn counted_anew(info: &NodeInfo) -> NodeInfo {
    let mut anew = NodeInfo::new(&info.name, info.slot);
    anew.node = info.node.clone();
    for pod in &info.pods {
        anew.add(pod.clone());
    }
    anew
}

#[test]
fn counts_stay_true_whatever_comes_and_goes() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut cache = Cache::default();
    let affinity = json!({ "spec": { "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "zone", "labelSelector": {} }],
    } } } });
    let red = Selector::parse("red").expect("a selector");
    for step in 0..3000 {
        if step == 1000 {
            // Counted here, kept up from here on.
            drop(cache.tally("default", &red));
        }
        let name = format!("node-{}", random.random_range(0..5));
        let uid = format!("pod-{}", random.random_range(0..40));
        match random.random_range(0..10) {
            0 => drop(cache.put_node(node(&name, json!({})))),
            1 => drop(cache.remove_node(&name)),
            2 | 3 => drop(cache.remove_pod(&uid)),
            4 => drop(cache.forget(&uid)),
            5 => {
                let pod = pod(&uid, requests(json!({ "cpu": "100m" })));
                if let Some(slot) = cache.find(&name).filter(|_| !cache.pods.contains_key(&uid)) {
                    cache.assume(pod, slot);
                }
            }
            _ => {
                let ports = json!({ "spec": { "containers": [
                    { "name": "c", "ports": [{ "containerPort": 1, "hostPort": random.random_range(1..9) }] },
                ] } });
                let mut manifest =
                    if random.random() { both(affinity.clone(), ports) } else { requests(json!({ "memory": "1Mi" })) };
                if random.random() {
                    manifest = both(manifest, labels([("red", "")]));
                }
                if random.random() {
                    manifest = both(manifest, json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
                }
                drop(cache.put_pod(placed(&uid, &name, manifest)));
            }
        }
    }
    let reds = cache.tally("default", &red);
    let all = |slot| reds.slots().find(|(held, _)| *held == slot).map_or(0, |(_, pods)| pods);
    let mut pods = 0;
    for (name, slot) in &cache.by_name {
        let info = cache.node(*slot);
        assert_eq!(info.name, *name);
        assert!(info.node.is_some() || !info.pods.is_empty(), "{name} should be forgotten");
        let anew = counted_anew(info);
        assert_eq!((&info.requested, info.scored), (&anew.requested, anew.scored), "{name}");
        assert_eq!(info.ports.len(), anew.ports.len(), "{name}");
        assert_eq!(info.slot, *slot, "{name}");
        let avoiding = info.pods.iter().filter(|pod| pod.affinity.is_some()).count();
        let holders = cache.terms.iter().filter_map(|(_, _, holders)| holders.get(slot)).sum::<i64>();
        assert_eq!(holders, i64::try_from(avoiding).expect("few"), "{name}");
        let tally = |pods: &mut dyn Iterator<Item = &Arc<PodInfo>>| i64::try_from(pods.count()).expect("few");
        let red = |pod: &&Arc<PodInfo>| pod.labels.contains_key("red");
        let staying = |pod: &&Arc<PodInfo>| !pod.terminating;
        assert_eq!(all(*slot), tally(&mut info.pods.iter().filter(red)), "{name}");
        assert_eq!(reds.staying(*slot), tally(&mut info.pods.iter().filter(red).filter(staying)), "{name}");
        pods += info.pods.len();
    }
    assert_eq!(pods, cache.pods.len());
    assert!(pods > 10 && cache.by_name.len() > 2, "the test left nothing to look at");
}

#[test]
fn what_is_assumed_is_confirmed_or_taken_back() {
    let mut cache = Cache::default();
    cache.put_node(node("a", json!({})));
    let slot = cache.find("a").expect("a node");
    let manifest = requests(json!({ "cpu": "1" }));
    cache.assume(pod("p", manifest.clone()), slot);
    assert_eq!(cache.node(slot).requested.milli_cpu, 1000);
    assert!(cache.forget("p"));
    assert_eq!(cache.node(slot).requested.milli_cpu, 0);

    cache.assume(pod("p", manifest.clone()), slot);
    cache.put_pod(placed("p", "a", manifest));
    assert!(!cache.is_assumed("p") && !cache.forget("p"), "the API has confirmed it");
    assert_eq!(cache.node(slot).requested.milli_cpu, 1000);
}

#[test]
fn pods_may_come_before_their_node_and_stay_after_it() {
    let mut cache = Cache::default();
    cache.put_pod(placed("p", "a", requests(json!({ "cpu": "1" }))));
    assert_eq!((cache.find("a"), cache.nodes().len()), (None, 0));
    cache.put_node(node("a", json!({})));
    let slot = cache.find("a").expect("a node");
    assert_eq!(cache.node(slot).requested.milli_cpu, 1000);
    cache.remove_node("a");
    assert_eq!(cache.nodes().len(), 0);
    cache.put_node(node("a", json!({})));
    assert_eq!(cache.node(cache.find("a").expect("a node")).requested.milli_cpu, 1000);
}

/// An image counts by how many nodes have it.
#[test]
fn images_are_counted_over_nodes() {
    let with = |name: &str, images: serde_json::Value| node(name, json!({ "status": { "images": images } }));
    let one = json!([{ "names": ["nginx:1", "nginx@sha256:0"], "sizeBytes": 100 }]);
    let mut cache = Cache::default();
    cache.put_node(with("a", one.clone()));
    cache.put_node(with("b", one));
    let nodes = |cache: &Cache| cache.image("nginx:1").map(|image| (image.bytes, image.nodes));
    assert_eq!(nodes(&cache), Some((100, 2)));
    cache.put_node(with("a", json!([])));
    assert_eq!(nodes(&cache), Some((100, 1)));
    cache.remove_node("b");
    assert_eq!(nodes(&cache), None);
}
