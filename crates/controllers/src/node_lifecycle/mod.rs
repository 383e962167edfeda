//! node-lifecycle-controller: a node whose kubelet falls silent is said to be unknown, its pods not ready, and after a
//! while they are driven out. A node's timer is its lease's: nothing is looked at while nodes are well.

mod health;
mod wanted;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tug_api::ObjectKey;
use tug_client::events::reference;
use tug_client::{Informer, Next, Queue, Recorder};

use self::health::{Health, is_ready, ready, unknown};
use self::wanted::{Eviction, eviction_key, is_evicting};
use self::zones::{Limiter, Zones, zone_of};
use crate::controller::{Context, Controller};
use crate::error::{Result, Step, unless_gone};
use crate::pod_status;
use crate::pods_on_nodes::PodsOnNodes;
use crate::taints::{NOT_READY, UNREACHABLE};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "node-lifecycle-controller", account: "node-controller", run };

/// As many as upstream's workers for nodes, and pods of one node at once.
const WORKERS: usize = 8;
const LEASES: &str = "kube-node-lease";

struct Nodes {
    context: Context,
    recorder: Recorder,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    on_nodes: PodsOnNodes,
    known: Mutex<HashMap<String, Known>>,
    limiter: Mutex<Limiter>,
    queue: Queue<String>,
}

struct Known {
    reference: ObjectReference,
    health: Health,
}

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let pods: Informer<Pod> = context.informers.of();
        let nodes = Arc::new(Nodes {
            recorder: context.recorder("node-controller"),
            nodes: context.informers.of(),
            leases: context.informers.of(),
            on_nodes: PodsOnNodes::follow(&pods, |_, _| {}),
            pods,
            known: Mutex::default(),
            limiter: Mutex::default(),
            queue: Queue::new(),
            context: context.clone(),
        });
        nodes.nodes.synced().await;
        nodes.pods.synced().await;
        nodes.leases.synced().await;
        let queue = nodes.queue.clone();
        nodes.nodes.subscribe(move |change| queue.add(change.object().key.name.clone()));
        let weak = Arc::downgrade(&nodes);
        nodes.leases.subscribe(move |change| {
            let lease = &change.object().key;
            if lease.namespace == LEASES
                && change.new.is_some()
                && let Some(nodes) = weak.upgrade()
                && let Some(known) = nodes.known.lock().get_mut(&lease.name)
            {
                // Only the kubelet writes it. The timer that runs already sees that it rang too early.
                known.health.heard = Instant::now();
            }
        });
        let reconcile = |name: String| {
            let nodes = nodes.clone();
            async move { nodes.reconcile(&name).await }
        };
        context.work(nodes.queue.clone(), WORKERS, reconcile).await;
    })
}

impl Nodes {
    async fn reconcile(&self, name: &str) -> Result<Next> {
        let Some(node) = self.nodes.get("", name) else {
            self.forget(name);
            return Ok(Next::Wait);
        };
        let heard = self.see(name, &node);
        let settings = &self.context.settings;
        let grace = match ready(&node) {
            Some(_) => settings.node_monitor_grace_period,
            None => settings.node_startup_grace_period,
        };
        let silent = heard.elapsed();
        if silent >= grace && self.say_unknown(name, &node).await? {
            // The change brings it here again.
            return Ok(Next::Wait);
        }
        let (eviction, next) = self.eviction(&node);
        self.set_taints_and_labels(name, &node, eviction).await?;
        if ready(&node).is_some_and(|ready| ready.status == "Unknown") {
            self.say_pods_not_ready(name, &node).await?;
        }
        match (next, grace.checked_sub(silent)) {
            (Next::After(turn), Some(left)) => Ok(Next::After(turn.min(left))),
            (Next::Wait, Some(left)) => Ok(Next::After(left)),
            (next, None) => Ok(next),
        }
    }

    /// Takes note of the node and its heartbeat; returns when it was last heard of.
    fn see(&self, name: &str, node: &Node) -> Instant {
        let (now, wall) = (Instant::now(), Time(Timestamp::now()));
        let mut known = self.known.lock();
        let is_same = |known: &Known| known.reference.uid == node.metadata.uid;
        let is_new = !known.get(name).is_some_and(is_same);
        if is_new {
            let reference = ObjectReference { resource_version: None, ..reference(node) };
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.recorder.normal(&reference, "RegisteredNode", &message);
            let has_lease = self.leases.object(&ObjectKey::new(LEASES, name)).is_some();
            known.insert(name.to_owned(), Known { reference, health: Health::new(node, has_lease, now, &wall) });
        }
        let held = known.get_mut(name).expect("inserted above");
        held.health.see(node, now);
        let heard = held.health.heard;
        let was_ready = std::mem::replace(&mut held.health.is_ready, is_ready(node));
        if is_new || was_ready != is_ready(node) {
            self.look_again_at_silent(&known, name);
        }
        heard
    }

    fn forget(&self, name: &str) {
        let mut known = self.known.lock();
        let Some(gone) = known.remove(name) else { return };
        let message = format!("Node {name} event: Removing Node {name} from Controller");
        self.recorder.normal(&gone.reference, "RemovingNode", &message);
        self.look_again_at_silent(&known, name);
    }

    /// What the others may do depends on how many are well.
    fn look_again_at_silent(&self, known: &HashMap<String, Known>, but: &str) {
        let silent = known.iter().filter(|(name, known)| !known.health.is_ready && *name != but);
        silent.for_each(|(name, _)| self.queue.add(name.clone()));
    }

    /// True if there was something new to say.
    async fn say_unknown(&self, name: &str, node: &Node) -> Result<bool> {
        let conditions = unknown(node, &Time(Timestamp::now()));
        if conditions.is_empty() {
            return Ok(false);
        }
        // A kubelet that has spoken meanwhile is right.
        let patch = Patch::Strategic(json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "status": { "conditions": conditions },
        }));
        let patched = self.api().patch_status(name, &PatchParams::default(), &patch).await;
        unless_gone(patched).step("saying that a node is unknown")?;
        if is_ready(node) {
            let about = ObjectReference { resource_version: None, ..reference(node) };
            self.recorder.normal(&about, "NodeNotReady", &format!("Node {name} status is now: NodeNotReady"));
        }
        Ok(true)
    }

    /// Whether the node's pods have to leave, and if it isn't its turn yet, when that is.
    fn eviction(&self, node: &Node) -> (Eviction, Next) {
        let Some(key) = eviction_key(node) else {
            let eviction = if ready(node).is_some() { Eviction::None } else { Eviction::AsIs };
            return (eviction, Next::Wait);
        };
        let all = self.nodes.list();
        let zones = Zones::count(all.iter().map(AsRef::as_ref));
        if zones.are_all_disrupted() {
            return (Eviction::None, Next::Wait);
        }
        if [NOT_READY, UNREACHABLE].iter().any(|held| is_evicting(node, held)) {
            return (Eviction::For(key), Next::Wait);
        }
        let zone = zone_of(node);
        let Some(interval) = zones.interval(&zone) else { return (Eviction::AsIs, Next::Wait) };
        match self.limiter.lock().take(&zone, interval, Instant::now()) {
            Ok(()) => (Eviction::For(key), Next::Wait),
            Err(turn) => (Eviction::AsIs, Next::After(turn)),
        }
    }

    async fn set_taints_and_labels(&self, name: &str, node: &Node, eviction: Eviction) -> Result<()> {
        let taints = wanted::taints(node, eviction, &Time(Timestamp::now()));
        let labels = wanted::labels(node);
        if taints.is_none() && labels.is_empty() {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version, "labels": labels },
        });
        if let Some(taints) = taints {
            patch["spec"]["taints"] = json!(taints);
        }
        let patched = self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        unless_gone(patched).step("setting a node's taints")?;
        Ok(())
    }

    /// Nobody can say that they are. What was said since the node fell silent is the kubelet's newest word, and stays.
    async fn say_pods_not_ready(&self, name: &str, node: &Node) -> Result<()> {
        let Some(since) = ready(node).and_then(|ready| ready.last_transition_time.clone()) else { return Ok(()) };
        let is_stale = |pod: &Pod| {
            let ready = pod_status::condition(pod, "Ready").filter(|ready| ready.status == "True");
            ready.is_some_and(|ready| ready.last_transition_time.as_ref().is_none_or(|at| at.0 <= since.0))
        };
        let get = |key: ObjectKey| self.pods.get(&key.namespace, &key.name);
        let stale: Vec<_> = self.on_nodes.on(name).into_iter().filter_map(get).filter(|pod| is_stale(pod)).collect();
        let each = stale.into_iter().map(|pod| async move { self.say_not_ready(&pod).await });
        stream::iter(each.collect::<Vec<_>>()).buffer_unordered(WORKERS).try_collect::<()>().await
    }

    async fn say_not_ready(&self, pod: &Pod) -> Result<()> {
        let now = Time(Timestamp::now());
        let condition = json!({ "type": "Ready", "status": "False", "lastTransitionTime": now });
        if pod_status::patch(&self.context.client, pod, json!({ "conditions": [condition] })).await? {
            self.recorder.warning(&reference(pod), "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }
}
