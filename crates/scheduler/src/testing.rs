//! Manifests in, what the scheduler makes of them out.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cache::Cache;
use crate::cycle::{Scheduling, Verdict};
use crate::diagnosis::{Diagnosis, Nomination};
use crate::framework::{Cycle, Framework};
use crate::node::Node;
use crate::plugins;
use crate::pod::PodInfo;

/// `base` with what `more` has, as a merge patch does it.
fn merged(mut base: Value, more: Value) -> Value {
    match (&mut base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                let held = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, merged(held, value));
            }
        }
        (base, more) => *base = more,
    }
    base
}

/// A node with room for four processors and 8 GiB, unless `more` says something else.
pub fn node(name: &str, more: Value) -> Arc<Node> {
    let node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "ephemeral-storage": "20Gi", "pods": "110" } },
    });
    let node = serde_json::from_value(merged(node, more)).expect("a node");
    Arc::new(Node::of(&node))
}

/// A pod with one container, which asks for nothing unless `more` says something else.
pub fn pod(name: &str, more: Value) -> Arc<PodInfo> {
    let pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "c", "image": "nginx:1" }] },
    });
    let pod = serde_json::from_value(merged(pod, more)).expect("a pod");
    Arc::new(PodInfo::of(&pod))
}

/// `pod` with a node.
pub fn placed(name: &str, node: &str, more: Value) -> Arc<PodInfo> {
    pod(name, merged(json!({ "spec": { "nodeName": node } }), more))
}

/// A container's requests as part of a pod.
pub fn requests(requests: Value) -> Value {
    json!({ "spec": { "containers": [{ "name": "c", "image": "nginx:1", "resources": { "requests": requests } }] } })
}

/// As many metadata labels as there are pairs.
pub fn labels<const N: usize>(labels: [(&str, &str); N]) -> Value {
    json!({ "metadata": { "labels": labels.into_iter().collect::<std::collections::BTreeMap<_, _>>() } })
}

/// Both of two parts of a manifest.
pub fn both(one: Value, another: Value) -> Value {
    merged(one, another)
}

/// A cluster and its scheduler, without an API.
pub struct Fixture {
    pub framework: Framework,
    pub cache: Cache,
    pub scheduling: Scheduling,
}

impl Fixture {
    pub fn new(nodes: &[Arc<Node>], pods: &[Arc<PodInfo>]) -> Self {
        let mut cache = Cache::default();
        for node in nodes {
            cache.put_node(node.clone());
        }
        for pod in pods {
            cache.put_pod(pod.clone());
        }
        Self { framework: Framework::new(plugins::all()), cache, scheduling: Scheduling::new(0, 1) }
    }

    pub fn schedule(&mut self, pod: &PodInfo) -> Verdict {
        self.scheduling.schedule(&self.framework, &mut self.cache, pod)
    }

    /// The node's name, or why there is none, as events say it.
    pub fn outcome(&mut self, pod: &PodInfo) -> String {
        match self.schedule(pod) {
            Verdict::Node(slot) => self.cache.node(slot).name.clone(),
            Verdict::NoNodes => "no nodes".into(),
            Verdict::Unfit(diagnosis) => diagnosis.to_string(),
            Verdict::Error(error) => format!("error: {error}"),
        }
    }

    /// Names of the plugins that turn the pod away.
    pub fn turned_away_by(&mut self, pod: &PodInfo) -> Vec<&'static str> {
        match self.schedule(pod) {
            Verdict::Unfit(diagnosis) => {
                diagnosis.turned_away_by().iter().map(|plugin| self.framework.plugin(plugin).name()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Where room would be made, and by whose end.
    pub fn preemption(&mut self, pod: &PodInfo) -> Option<(String, Vec<String>)> {
        match self.schedule(pod) {
            Verdict::Unfit(Diagnosis { nomination: Nomination::Node { name, victims }, .. }) => {
                Some((name, victims.iter().map(|victim| victim.key.name.clone()).collect()))
            }
            _ => None,
        }
    }

    /// What one plugin's scores of the nodes are, by the order of their names; `None` if all nodes are the same to it.
    pub fn scores(&mut self, plugin: &str, pod: &PodInfo) -> Option<Vec<i64>> {
        let mut slots = self.cache.nodes().to_vec();
        slots.sort_by_key(|slot| self.cache.node(*slot).name.clone());
        let (_, plugin) = self.framework.plugins().find(|(_, held)| held.name() == plugin).expect("a plugin");
        let scorer = plugin.pre_score(Cycle { pod, cache: &self.cache }, &slots).expect("readable")?;
        let mut scores: Vec<_> = slots.iter().map(|slot| scorer.score(self.cache.node(*slot))).collect();
        scorer.normalize(&mut scores);
        Some(scores)
    }
}
