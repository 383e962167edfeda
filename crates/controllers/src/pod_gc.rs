//! pod-garbage-collector-controller: ends pods that no kubelet will end: those of nodes that are gone or out of service,
//! those that were to be deleted before they had a node, and the oldest of too many that have finished.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::{Value, json};
use tug_api::ObjectKey;
use tug_client::{Change, Informer, Next, Queue};

use crate::controller::{Context, Controller};
use crate::error::{Result, Step};
use crate::pod_status::{self, is_finished};
use crate::pods_on_nodes::PodsOnNodes;
use crate::taints::{self, OUT_OF_SERVICE};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "pod-garbage-collector-controller", account: "pod-garbage-collector", run };

const WORKERS: usize = 4;
/// Deletions at once.
const AT_ONCE: usize = 16;
/// Finished pods are counted this long after a change, upstream's period.
const COUNT_AFTER: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Item {
    Node(String),
    Pod(ObjectKey),
    Finished,
}

struct Collector {
    context: Context,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    on_nodes: PodsOnNodes,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = Queue::new();
        let pods: Informer<Pod> = context.informers.of();
        let nodes: Informer<Node> = context.informers.of();
        // Else every pod's node would seem to be gone.
        nodes.synced().await;
        let settings = &context.settings;
        let (quarantine, most) = (settings.node_quarantine, settings.terminated_pod_gc_threshold);
        let (add, known) = (queue.clone(), nodes.clone());
        let on_nodes = PodsOnNodes::follow(&pods, move |change, node| {
            if let Some(node) = node.filter(|_| change.new.is_some())
                && known.object(&ObjectKey::new("", node)).is_none()
            {
                add.add_after(Item::Node(node.to_owned()), quarantine);
            }
            if let Some(item) = terminating(change, node, &known) {
                add.add(item);
            }
        });
        let (add, placed) = (queue.clone(), on_nodes.clone());
        pods.subscribe(move |_| {
            if most > 0 && placed.bound() > most {
                add.add_after(Item::Finished, COUNT_AFTER);
            }
        });
        let (add, placed) = (queue.clone(), on_nodes.clone());
        nodes.subscribe(move |change| {
            let name = &change.object().key.name;
            if change.new.is_none() && !placed.on(name).is_empty() {
                add.add_after(Item::Node(name.clone()), quarantine);
            } else if is_out_of_service(change.new.as_ref().and_then(|node| node.typed().ok()).as_deref()) {
                add.add(Item::Node(name.clone()));
            }
        });
        let collector = Arc::new(Collector { context: context.clone(), pods, nodes, on_nodes });
        let reconcile = |item: Item| {
            let collector = collector.clone();
            async move { collector.reconcile(&item).await }
        };
        context.work(queue, WORKERS, reconcile).await;
    })
}

/// Pods being deleted that may have nobody to end them.
fn terminating(change: &Change, node: Option<&str>, nodes: &Informer<Node>) -> Option<Item> {
    let pod = change.new.as_ref().filter(|pod| pod.meta.deletion_timestamp.is_some())?;
    match node {
        None => Some(Item::Pod(pod.key.clone())),
        Some(node) => is_out_of_service(nodes.get("", node).as_deref()).then(|| Item::Node(node.to_owned())),
    }
}

fn is_out_of_service(node: Option<&Node>) -> bool {
    let is_ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    node.is_some_and(|node| !is_ready(node) && taints::of(node).iter().any(|taint| taint.key == OUT_OF_SERVICE))
}

impl Collector {
    async fn reconcile(&self, item: &Item) -> Result<Next> {
        match item {
            Item::Node(name) => match self.nodes.get("", name) {
                Some(node) if is_out_of_service(Some(&node)) => {
                    let going = self.on(name).into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
                    self.end_all(going.collect(), |_| None).await?;
                }
                Some(_) => {}
                None => self.end_orphans(name).await?,
            },
            Item::Pod(key) => {
                let pod = self.pods.get(&key.namespace, &key.name);
                let is_stuck = |pod: &Arc<Pod>| {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                    pod.metadata.deletion_timestamp.is_some() && node.unwrap_or_default().is_empty()
                };
                self.end_all(pod.into_iter().filter(is_stuck).collect(), |_| None).await?;
            }
            Item::Finished => {
                let surplus = surplus(self.pods.list(), self.context.settings.terminated_pod_gc_threshold);
                self.end_all(surplus, |_| None).await?;
            }
        }
        Ok(Next::Wait)
    }

    fn on(&self, node: &str) -> Vec<Arc<Pod>> {
        let get = |key: ObjectKey| self.pods.get(&key.namespace, &key.name);
        self.on_nodes.on(node).into_iter().filter_map(get).collect()
    }

    /// Those of a node that the API doesn't know either.
    async fn end_orphans(&self, node: &str) -> Result<()> {
        let nodes = Api::<Node>::all(self.context.client.clone());
        if nodes.get_metadata_opt(node).await.step("looking for a node")?.is_some() {
            return Ok(());
        }
        let why = |pod: &Pod| pod_status::disruption(pod, "DeletionByPodGC", "PodGC: node no longer exists");
        self.end_all(self.on(node), why).await
    }

    async fn end_all(&self, pods: Vec<Arc<Pod>>, why: impl Fn(&Pod) -> Option<Value>) -> Result<()> {
        let each = pods.into_iter().map(|pod| {
            let why = why(&pod);
            async move { self.end(&pod, why).await }
        });
        stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Its owner shall see that it failed, and nobody is left who could give it grace.
    async fn end(&self, pod: &Pod, why: Option<Value>) -> Result<()> {
        if !is_finished(pod) {
            let mut status = json!({ "phase": "Failed", "observedGeneration": pod.metadata.generation });
            if let Some(condition) = why {
                status["conditions"] = json!([condition]);
            }
            pod_status::patch(&self.context.client, pod, status).await?;
        }
        pod_status::delete(&self.context.client, pod, Some(0)).await
    }
}

/// The finished pods past so many: evicted ones first, then the oldest (`byEvictionAndCreationTimestamp`).
fn surplus(pods: Vec<Arc<Pod>>, most: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<Arc<Pod>> = pods.into_iter().filter(|pod| is_finished(pod)).collect();
    let surplus = finished.len().saturating_sub(most);
    finished.sort_by_cached_key(|pod| {
        let is_evicted = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        (!is_evicted, pod.metadata.creation_timestamp.clone().map(|made| made.0), pod.metadata.name.clone())
    });
    finished.truncate(surplus);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected from the cases of upstream's `TestGCTerminated`.
    #[test]
    fn the_oldest_of_too_many_go() {
        let pod = |name: &str, phase: &str, reason: &str, made: u32| {
            let pod = json!({
                "metadata": { "name": name, "creationTimestamp": format!("2026-01-0{made}T00:00:00Z") },
                "status": { "phase": phase, "reason": reason },
            });
            Arc::new(serde_json::from_value::<Pod>(pod).expect("a pod"))
        };
        let pods = vec![
            pod("young", "Failed", "", 3),
            pod("old", "Succeeded", "", 1),
            pod("b", "Failed", "", 2),
            pod("a", "Failed", "", 2),
            pod("evicted", "Failed", "Evicted", 4),
            pod("running", "Running", "", 1),
        ];
        let cases: [(usize, &[&str]); 4] =
            [(5, &[]), (4, &["evicted"]), (2, &["evicted", "old", "a"]), (0, &["evicted", "old", "a", "b", "young"])];
        for (most, expected) in cases {
            let surplus = surplus(pods.clone(), most);
            let names: Vec<&str> = surplus.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
            assert_eq!(names, expected, "{most}");
        }
    }
}
