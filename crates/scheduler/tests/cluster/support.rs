//! A real API server in this process, a scheduler that follows it, and waiting for what a person would see.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Node, Pod, PodCondition, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use tug_apiserver::auth::User;
use tug_apiserver::{Config, Server};
use tug_client::{Cluster, Informer};
use tug_scheduler::{Scheduler, Settings};
use tug_store::SqliteStore;

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Tested {
    pub server: Arc<Server>,
    pub admin: Cluster,
    pub scheduler: Option<Scheduler>,
    _dir: TempDir,
}

impl Tested {
    /// A server with so many nodes, and a scheduler.
    pub async fn start(nodes: usize) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut config = Config::new(dir.path().to_owned());
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let store = SqliteStore::open(dir.path().join("state.db")).expect("a store");
        let server = Server::start(config, Arc::new(store)).await.expect("a server");
        let admin = server.cluster(User::admin());
        let mut tested = Self { server, admin, scheduler: None, _dir: dir };
        // What its controller would make.
        tested.create::<ServiceAccount>(json!({ "metadata": { "name": "default" } })).await;
        for index in 0..nodes {
            tested.add_node(&format!("node-{index}"), json!({ "cpu": "8", "memory": "16Gi", "pods": "110" })).await;
        }
        tested.start_scheduler();
        tested
    }

    pub fn start_scheduler(&mut self) {
        let cluster = self.server.cluster(User::system("system:kube-scheduler", &[]));
        self.scheduler = Some(tug_scheduler::start(cluster, Settings::default()));
    }

    pub async fn stop_scheduler(&mut self) {
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.stop().await;
        }
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + serde::Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let object: K = serde_json::from_value(object).expect("well-formed");
        self.api().create(&PostParams::default(), &object).await.expect("created")
    }

    pub fn api<K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.admin.client.clone(), "default")
    }

    pub async fn add_node(&self, name: &str, allocatable: Value) {
        let labels = json!({ "kubernetes.io/hostname": name });
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        let node: Node = serde_json::from_value(node).expect("well-formed");
        let nodes: Api<Node> = Api::all(self.admin.client.clone());
        nodes.create(&PostParams::default(), &node).await.expect("created");
        self.set_allocatable(name, allocatable).await;
        // What the node lifecycle controller does once the node is ready.
        let ready = Patch::Merge(json!({ "spec": { "taints": null } }));
        nodes.patch(name, &PatchParams::default(), &ready).await.expect("patched");
    }

    pub async fn set_allocatable(&self, node: &str, allocatable: Value) {
        let nodes: Api<Node> = Api::all(self.admin.client.clone());
        let patch = Patch::Merge(json!({ "status": { "allocatable": allocatable } }));
        nodes.patch_status(node, &PatchParams::default(), &patch).await.expect("patched");
    }

    /// Waits until the pods of the cluster are as asked for.
    pub async fn pods_until(&self, what: &str, done: impl Fn(&[Arc<Pod>]) -> bool) -> Vec<Arc<Pod>> {
        until(&self.admin.informers.of(), what, done).await
    }

    pub async fn events_until(&self, what: &str, done: impl Fn(&[Arc<Event>]) -> bool) -> Vec<Arc<Event>> {
        until(&self.admin.informers.of(), what, done).await
    }
}

async fn until<K>(informer: &Informer<K>, what: &str, done: impl Fn(&[Arc<K>]) -> bool) -> Vec<Arc<K>>
where
    K: DeserializeOwned + Debug + Send + Sync + 'static,
{
    let changed = Arc::new(Notify::new());
    let heard = changed.clone();
    informer.subscribe(move |_| heard.notify_one());
    let waiting = async {
        loop {
            let objects = informer.list();
            if done(&objects) {
                return objects;
            }
            changed.notified().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:#?}", informer.list()))
}

/// A pod with one container and these requests.
pub fn pod(name: &str, requests: Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": "test" } },
        "spec": { "containers": [{ "name": "c", "image": "nginx", "resources": { "requests": requests } }] },
    })
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

pub fn scheduled(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")
}

pub fn named<'a>(pods: &'a [Arc<Pod>], name: &str) -> Option<&'a Arc<Pod>> {
    pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name))
}
