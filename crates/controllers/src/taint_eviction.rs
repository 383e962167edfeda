//! taint-eviction-controller: pods leave a node that has a `NoExecute` taint which they don't tolerate, or no longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint, Toleration};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::time::Instant;
use tug_api::ObjectKey;
use tug_client::{Change, Informer, Next, Queue, Recorder};

use crate::controller::{Context, Controller};
use crate::error::Result;
use crate::pod_status;
use crate::pods_on_nodes::PodsOnNodes;
use crate::taints::{self, tolerates};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "taint-eviction-controller", account: "node-controller", run };

/// As many as upstream's.
const WORKERS: usize = 8;

struct Evictions {
    client: kube::Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    /// Nodes' `NoExecute` taints; without an entry where there are none.
    tainted: RwLock<HashMap<String, Vec<Taint>>>,
    /// Since when pods that have to leave later are known to have to.
    leaving: Mutex<HashMap<ObjectKey, Leaving>>,
    queue: Queue<ObjectKey>,
}

struct Leaving {
    uid: Option<String>,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    /// From when the taint was seen.
    For(Duration),
}

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let pods: Informer<Pod> = context.informers.of();
        let nodes: Informer<Node> = context.informers.of();
        let evictions = Arc::new(Evictions {
            client: context.client.clone(),
            recorder: context.recorder("taint-eviction-controller"),
            pods: pods.clone(),
            tainted: RwLock::default(),
            leaving: Mutex::default(),
            queue: Queue::new(),
        });
        let weak = Arc::downgrade(&evictions);
        let on_nodes = PodsOnNodes::follow(&pods, move |change, node| {
            if let Some(evictions) = weak.upgrade() {
                evictions.hear_pod(change, node);
            }
        });
        let weak = Arc::downgrade(&evictions);
        nodes.subscribe(move |change| {
            if let Some(evictions) = weak.upgrade() {
                evictions.hear_node(change, &on_nodes);
            }
        });
        let reconcile = |pod: ObjectKey| {
            let evictions = evictions.clone();
            async move { evictions.reconcile(pod).await }
        };
        context.work(evictions.queue.clone(), WORKERS, reconcile).await;
    })
}

impl Evictions {
    fn hear_pod(&self, change: &Change, node: Option<&str>) {
        let key = &change.object().key;
        let is_on_tainted = node.is_some_and(|node| self.tainted.read().contains_key(node));
        if is_on_tainted || (change.new.is_none() && self.leaving.lock().contains_key(key)) {
            self.queue.add(key.clone());
        }
    }

    fn hear_node(&self, change: &Change, on_nodes: &PodsOnNodes) {
        let name = &change.object().key.name;
        let node = change.new.as_ref().and_then(|node| node.typed::<Node>().ok());
        let taints = node.map(|node| taints::no_execute(&node)).unwrap_or_default();
        let before = match taints.is_empty() {
            true => self.tainted.write().remove(name),
            false => self.tainted.write().insert(name.clone(), taints.clone()),
        };
        if before.unwrap_or_default() != taints {
            on_nodes.on(name).into_iter().for_each(|pod| self.queue.add(pod));
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Next> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            self.cancel(&key);
            return Ok(Next::Wait);
        };
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let taints = self.tainted.read().get(node).cloned().unwrap_or_default();
        let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let Stay::For(time) = stay(&taints, tolerations) else {
            self.cancel(&key);
            return Ok(Next::Wait);
        };
        if pod.metadata.deletion_timestamp.is_some() {
            self.leaving.lock().remove(&key);
            return Ok(Next::Wait);
        }
        let since = self.since(&key, &pod);
        if let Some(left) = time.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
            return Ok(Next::After(left));
        }
        self.recorder.normal(&about(&key), "TaintManagerEviction", &format!("Marking for deletion Pod {key}"));
        let why = "Taint manager: deleting due to NoExecute taint";
        if let Some(condition) = pod_status::disruption(&pod, "DeletionByTaintManager", why) {
            pod_status::patch(&self.client, &pod, json!({ "conditions": [condition] })).await?;
        }
        pod_status::delete(&self.client, &pod, None).await?;
        self.leaving.lock().remove(&key);
        Ok(Next::Wait)
    }

    /// When this very pod was first seen to have to leave.
    fn since(&self, key: &ObjectKey, pod: &Pod) -> Instant {
        let mut leaving = self.leaving.lock();
        match leaving.get(key).filter(|leaving| leaving.uid == pod.metadata.uid) {
            Some(leaving) => leaving.since,
            None => {
                let since = Instant::now();
                leaving.insert(key.clone(), Leaving { uid: pod.metadata.uid.clone(), since });
                since
            }
        }
    }

    fn cancel(&self, key: &ObjectKey) {
        if self.leaving.lock().remove(key).is_some() {
            let message = format!("Cancelling deletion of Pod {key}");
            self.recorder.normal(&about(key), "TaintManagerEviction", &message);
        }
    }
}

fn about(key: &ObjectKey) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        ..ObjectReference::default()
    }
}

/// How long a pod may stay: not at all with a taint that it doesn't tolerate, else the shortest of the tolerations that
/// count, which is the first that matches each taint (`GetMatchingTolerations`, `getMinTolerationTime`).
fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut time = Stay::Forever;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::For(Duration::ZERO);
        };
        let Some(seconds) = toleration.toleration_seconds else { continue };
        let seconds = Duration::from_secs(seconds.max(0).unsigned_abs());
        time = match time {
            Stay::For(shorter) if shorter <= seconds => time,
            _ => Stay::For(seconds),
        };
    }
    time
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Expected from the cases of upstream's `TestGetMinTolerationTime`, `TestCreatePod` and `TestUpdateNode`.
    #[test]
    fn the_shortest_toleration_counts() {
        let taint = |key: &str| json!({ "key": key, "value": "x", "effect": "NoExecute" });
        let tolerates = |key: &str, seconds: Option<i64>| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        let seconds = |seconds| Stay::For(Duration::from_secs(seconds));
        let (a, b) = (taint("a"), taint("b"));
        let cases: [(Vec<&Value>, Vec<Value>, Stay); 9] = [
            (vec![], vec![], Stay::Forever),
            (vec![&a], vec![], seconds(0)),
            (vec![&a], vec![tolerates("b", None)], seconds(0)),
            (vec![&a], vec![tolerates("a", None)], Stay::Forever),
            (vec![&a], vec![tolerates("a", Some(300))], seconds(300)),
            (vec![&a], vec![tolerates("a", Some(-1))], seconds(0)),
            (vec![&a, &b], vec![tolerates("a", Some(300)), tolerates("b", Some(5))], seconds(5)),
            (vec![&a, &b], vec![tolerates("a", None), tolerates("b", Some(5))], seconds(5)),
            (vec![&a], vec![tolerates("a", None), tolerates("a", Some(5))], Stay::Forever),
        ];
        for (taints, tolerations, expected) in cases {
            let taints: Vec<Taint> = serde_json::from_value(json!(taints)).expect("taints");
            let held: Vec<Toleration> = serde_json::from_value(json!(tolerations)).expect("tolerations");
            assert_eq!(stay(&taints, &held), expected, "{taints:?} {tolerations:?}");
        }
    }
}
