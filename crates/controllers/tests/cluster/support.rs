//! A control plane for each test: an API server, all controllers, and an administrator who makes and watches objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tug_api::{Kind, ObjectKey, kinds};
use tug_apiserver::auth::User;
use tug_apiserver::{Config, Server};
use tug_client::{Cluster, HttpsSource, Informer, Scope, Source, SourceEvent};
use tug_controllers::{Controllers, Identity, Settings};
use tug_store::SqliteStore;

/// Far longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct ControlPlane {
    pub server: Arc<Server>,
    pub admin: Cluster,
    _controllers: Controllers,
    _dir: TempDir,
}

impl ControlPlane {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Its controllers hear of pods only while `gate` is open.
    pub async fn start_behind(gate: watch::Receiver<bool>) -> Self {
        Self::start_seeing(Settings::default(), |cluster| {
            let source = Gated { source: HttpsSource::new(cluster.client.clone()), gate: gate.clone() };
            Cluster::new(cluster.client, Arc::new(source))
        })
        .await
    }

    pub async fn start_with(settings: Settings) -> Self {
        Self::start_seeing(settings, |cluster| cluster).await
    }

    async fn start_seeing(settings: Settings, door_of: impl Fn(Cluster) -> Cluster) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().expect("a directory");
        let mut config = Config::new(dir.path().to_owned());
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let store = SqliteStore::open(dir.path().join("state.db")).expect("a store");
        let server = Server::start(config, Arc::new(store)).await.expect("a server");
        let door = |identity| {
            door_of(server.cluster(match identity {
                Identity::Manager => User::system("system:kube-controller-manager", &[]),
                Identity::Account(name) => User::service_account("kube-system", name, ""),
            }))
        };
        let settings = Settings { root_ca: server.pki().ca_pem().into(), ..settings };
        let controllers = tug_controllers::start(door, settings);
        let admin = server.cluster(User::admin());
        Self { server, admin, _controllers: controllers, _dir: dir }
    }

    /// Of the kind that `value` names, in its namespace.
    pub async fn create(&self, value: Value) -> Value {
        let (kind, key) = place(&value);
        let object: DynamicObject = serde_json::from_value(value).expect("an object");
        let created = self.api(kind, &key.namespace).create(&PostParams::default(), &object).await;
        serde_json::to_value(created.expect("created")).expect("JSON")
    }

    pub async fn delete(&self, object: &Value, how: &DeleteParams) {
        let (kind, key) = place(object);
        self.api(kind, &key.namespace).delete(&key.name, how).await.expect("deleted");
    }

    /// A merge patch.
    pub async fn patch(&self, object: &Value, patch: Value) {
        let (kind, key) = place(object);
        let api = self.api(kind, &key.namespace);
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    /// A merge patch of the status.
    pub async fn patch_status(&self, object: &Value, patch: Value) {
        let (kind, key) = place(object);
        let api = self.api(kind, &key.namespace);
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    pub async fn list(&self, kind: &Kind, namespace: &str) -> Vec<Value> {
        let list = self.api(kind, namespace).list(&ListParams::default()).await.expect("a list");
        list.items.into_iter().map(|object| with_kind(kind, serde_json::to_value(object).expect("JSON"))).collect()
    }

    /// A strategic patch of the status, as kubelets send it.
    pub async fn say_status(&self, object: &Value, status: Value) {
        let (kind, key) = place(object);
        let patch = Patch::Strategic(serde_json::json!({ "status": status }));
        let api = self.api(kind, &key.namespace);
        api.patch_status(&key.name, &PatchParams::default(), &patch).await.expect("patched");
    }

    /// The object as it is, if it is.
    pub async fn get(&self, object: &Value) -> Option<Value> {
        let (kind, key) = place(object);
        let got = self.api(kind, &key.namespace).get_opt(&key.name).await.expect("an answer");
        got.map(|object| serde_json::to_value(object).expect("JSON"))
    }

    /// Returns the object once it is as `is_so` says.
    #[track_caller]
    pub fn until(&self, object: &Value, is_so: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        let (kind, key) = place(object);
        self.wait(kind, move |informer| {
            let object = informer.object(&key)?.value().expect("JSON");
            is_so(&object).then_some(object)
        })
    }

    /// Returns once the object, or whatever else bears its name, is gone.
    #[track_caller]
    pub fn until_gone(&self, object: &Value) -> impl Future<Output = ()> {
        let (kind, key) = place(object);
        self.wait(kind, move |informer| informer.object(&key).is_none().then_some(()))
    }

    /// Returns the first object of a namespace that is as `is_so` says, once there is one.
    #[track_caller]
    pub fn until_some(
        &self,
        kind: &'static Kind,
        namespace: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        self.wait(kind, move |informer| {
            let objects = informer.objects_in(namespace).into_iter().map(|object| object.value().expect("JSON"));
            objects.into_iter().find(|object| is_so(object))
        })
    }

    /// Returns once so many objects of a namespace are as `is_so` says.
    #[track_caller]
    pub fn until_many(
        &self,
        kind: &'static Kind,
        namespace: &str,
        count: usize,
        is_so: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Vec<Value>> {
        self.wait(kind, move |informer| {
            let objects = informer.objects_in(namespace).into_iter().map(|object| object.value().expect("JSON"));
            let found: Vec<_> = objects.filter(|object| is_so(object)).collect();
            (found.len() == count).then_some(found)
        })
    }

    #[track_caller]
    fn wait<T>(&self, kind: &'static Kind, find: impl Fn(&Informer<Value>) -> Option<T>) -> impl Future<Output = T> {
        let caller = std::panic::Location::caller();
        let (group, version, plural) = (kind.group.into(), kind.version.into(), kind.plural.into());
        let informer = self.admin.informers.untyped(Scope { group, version, plural, ..Scope::default() });
        async move {
            informer.synced().await;
            let (changed, mut changes) = watch::channel(());
            informer.subscribe(move |_| {
                changed.send_replace(());
            });
            let search = async {
                loop {
                    changes.mark_unchanged();
                    if let Some(found) = find(&informer) {
                        return found;
                    }
                    changes.changed().await.expect("the informer lives");
                }
            };
            if let Ok(found) = tokio::time::timeout(PATIENCE, search).await {
                return found;
            }
            for object in informer.objects() {
                eprintln!("{}", String::from_utf8_lossy(object.json()));
            }
            panic!("{caller}: waited in vain; above is all that there was of {}", kind.plural);
        }
    }

    pub fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: kind.group.into(),
            version: kind.version.into(),
            api_version: kind.api_version(),
            kind: kind.kind.into(),
            plural: kind.plural.into(),
        };
        match kind.namespaced {
            true => Api::namespaced_with(self.admin.client.clone(), namespace, &resource),
            false => Api::all_with(self.admin.client.clone(), &resource),
        }
    }
}

/// Holds pods back, as a slow watch does.
struct Gated {
    source: HttpsSource,
    gate: watch::Receiver<bool>,
}

impl Source for Gated {
    fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
        let is_pods = scope.plural == "pods";
        let gate = self.gate.clone();
        let passed = move |event| {
            let mut gate = gate.clone();
            async move {
                // The test's end opens it, too.
                let _ = gate.wait_for(|open| *open || !is_pods).await;
                event
            }
        };
        self.source.follow(scope).then(passed).boxed()
    }
}

/// Items of lists don't say what they are.
fn with_kind(kind: &Kind, mut object: Value) -> Value {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    object
}

fn place(object: &Value) -> (&'static Kind, ObjectKey) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let kind = kinds::by_kind(group, version, &text(&object["kind"])).expect("a kind of the table");
    let metadata = &object["metadata"];
    (kind, ObjectKey::new(text(&metadata["namespace"]), text(&metadata["name"])))
}

/// Makes pods ready as they come, but for those whose image is `broken`, and counts those that are: a node without
/// containers.
pub struct Kubelet {
    counts: Arc<Mutex<Counts>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    /// Ready ones and not; those being deleted count no more.
    pods: HashMap<ObjectKey, bool>,
    /// The least that should be ready, and the most that should be at all.
    bounds: Option<(usize, usize)>,
    broken: Vec<(usize, usize)>,
}

impl Kubelet {
    pub fn start(plane: &ControlPlane) -> Self {
        let pods = plane.admin.informers.of::<Pod>();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let seen = counts.clone();
        pods.subscribe(move |change| {
            let pod = change.object().value().expect("JSON");
            let is_ready = pod["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
            let is_going = change.new.is_none() || pod["metadata"]["deletionTimestamp"].is_string();
            seen.lock().see(&change.object().key, (!is_going).then_some(is_ready));
            if !is_going && !is_ready && pod["spec"]["containers"][0]["image"] != "broken" {
                // It fails at the test's end only.
                let _ = arrived.send(change.object().key.clone());
            }
        });
        let client = plane.admin.client.clone();
        let task = tokio::spawn(async move {
            // Holds the informer, too.
            let _pods = pods;
            while let Some(key) = arrivals.recv().await {
                let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
                let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z" });
                let status = json!({ "status": { "phase": "Running", "conditions": [ready] } });
                // It may be gone by now.
                let _ = api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(status)).await;
            }
        });
        Self { counts, task }
    }

    /// From now on at least so many pods should be ready, and at most so many there.
    pub fn expect_between(&self, ready: usize, all: usize) {
        self.counts.lock().bounds = Some((ready, all));
    }

    #[track_caller]
    pub fn assert_kept(&self) {
        let counts = self.counts.lock();
        assert!(
            counts.broken.is_empty(),
            "{:?} were ready of those there, which is not within {:?}",
            counts.broken,
            counts.bounds
        );
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counts {
    fn see(&mut self, key: &ObjectKey, ready: Option<bool>) {
        match ready {
            Some(ready) => self.pods.insert(key.clone(), ready),
            None => self.pods.remove(key),
        };
        let (ready, all) = (self.pods.values().filter(|ready| **ready).count(), self.pods.len());
        if self.bounds.is_some_and(|(least, most)| ready < least || all > most) {
            self.broken.push((ready, all));
        }
    }
}
