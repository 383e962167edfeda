//! A local copy of the objects of one scope, kept by a watch, shared by all who ask for the same scope.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use k8s_openapi::Resource;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tug_api::{Object, ObjectKey};

use crate::source::{Scope, Source, SourceEvent};

/// Hands out informers, one copy of the objects for each scope. The copy of a whole kind lives as long as this; one of a
/// part of a kind (a namespace, a selector) as long as its last informer, as a kubelet follows many single objects.
#[derive(Clone)]
pub struct Informers {
    source: Arc<dyn Source>,
    copies: Arc<Mutex<Copies>>,
}

#[derive(Default)]
struct Copies {
    whole: HashMap<Scope, Arc<Copy>>,
    partial: HashMap<Scope, Weak<Copy>>,
}

/// A change of one object; `old` is `None` for one that is new here, `new` is `None` for one that is gone.
pub struct Change {
    pub old: Option<Arc<Object>>,
    pub new: Option<Arc<Object>>,
}

impl Change {
    /// The newest state known.
    pub fn object(&self) -> &Arc<Object> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has at least one side")
    }
}

/// The local copy. Cheap to clone. Reads never wait.
pub struct Informer<K> {
    copy: Arc<Copy>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { copy: self.copy.clone(), kind: PhantomData }
    }
}

impl Informers {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, copies: Arc::default() }
    }

    /// All objects of `K`.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        self.scoped(Scope::default())
    }

    /// Those of `K` that `scope` (its group, version and plural are filled in here) lets through.
    pub fn scoped<K>(&self, scope: Scope) -> Informer<K>
    where
        K: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        let scope =
            Scope { group: K::GROUP.into(), version: K::VERSION.into(), plural: K::URL_PATH_SEGMENT.into(), ..scope };
        Informer { copy: self.copy(scope), kind: PhantomData }
    }

    /// Objects of any kind, for code that looks at metadata only.
    pub fn untyped(&self, scope: Scope) -> Informer<serde_json::Value> {
        Informer { copy: self.copy(scope), kind: PhantomData }
    }

    fn copy(&self, scope: Scope) -> Arc<Copy> {
        let mut copies = self.copies.lock();
        let follow = |scope: &Scope| Copy::follow(&*self.source, scope.clone());
        if scope.is_whole() {
            return copies.whole.entry(scope).or_insert_with_key(follow).clone();
        }
        if let Some(copy) = copies.partial.get(&scope).and_then(Weak::upgrade) {
            return copy;
        }
        copies.partial.retain(|_, copy| copy.strong_count() > 0);
        let copy = follow(&scope);
        copies.partial.insert(scope, Arc::downgrade(&copy));
        copy
    }
}

impl<K: DeserializeOwned + Send + Sync + 'static> Informer<K> {
    /// Returns once the first listing is in.
    pub async fn synced(&self) {
        let mut synced = self.copy.synced.subscribe();
        synced.wait_for(|synced| *synced).await.expect("the sender lives as long as the copy");
    }

    /// Returns once this and its subscribers know all that was written up to `revision`: whoever decides by what is here
    /// waits for its own writes before it decides again.
    pub async fn reached(&self, revision: u64) {
        let mut reached = self.copy.reached.subscribe();
        reached.wait_for(|reached| *reached >= revision).await.expect("the sender lives as long as the copy");
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.object(&ObjectKey::new(namespace, name)).and_then(view)
    }

    /// The object without decoding it.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.copy.state.read().objects.get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects().into_iter().filter_map(view).collect()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects_in(namespace).into_iter().filter_map(view).collect()
    }

    /// Objects without decoding them.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.copy.state.read().objects.values().cloned().collect()
    }

    pub fn objects_in(&self, namespace: &str) -> Vec<Arc<Object>> {
        let state = self.copy.state.read();
        let from = state.objects.range(ObjectKey::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// Those whose owner references name `uid`, from an index.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.objects_owned_by(uid).into_iter().filter_map(view).collect()
    }

    pub fn objects_owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        let state = self.copy.state.read();
        let owned = state.owned.get(uid).into_iter().flatten();
        owned.filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Calls `f` for every object that is here now, then for every change, in order, from the informer's task: it must
    /// not block, nor subscribe. Usually it adds keys to a [`crate::Queue`]. It isn't called any more once the last
    /// informer of a part of a kind is dropped.
    pub fn subscribe(&self, f: impl Fn(&Change) + Send + Sync + 'static) {
        let mut subscribers = self.copy.subscribers.lock();
        let objects: Vec<_> = self.copy.state.read().objects.values().cloned().collect();
        for object in objects {
            f(&Change { old: None, new: Some(object) });
        }
        subscribers.push(Box::new(f));
    }
}

/// The typed view; an object that doesn't have the kind's shape is left out with a trace.
fn view<K: DeserializeOwned + Send + Sync + 'static>(object: Arc<Object>) -> Option<Arc<K>> {
    object.typed().inspect_err(|error| tracing::warn!(object = %object.key, %error, "an object can't be read")).ok()
}

type Subscriber = Box<dyn Fn(&Change) + Send + Sync>;

/// Objects of one scope and who is told of their changes.
struct Copy {
    state: RwLock<State>,
    synced: watch::Sender<bool>,
    /// The highest revision that subscribers have been told of.
    reached: watch::Sender<u64>,
    /// Held while a change is made and told, so that each subscriber hears all changes in order.
    subscribers: Mutex<Vec<Subscriber>>,
    follower: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Keys of objects by the uid of each of their owners.
    owned: HashMap<String, BTreeSet<ObjectKey>>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get_mut() {
            follower.abort();
        }
    }
}

impl Copy {
    fn follow(source: &dyn Source, scope: Scope) -> Arc<Self> {
        let copy = Arc::new(Self {
            state: RwLock::default(),
            synced: watch::Sender::new(false),
            reached: watch::Sender::new(0),
            subscribers: Mutex::default(),
            follower: Mutex::default(),
        });
        let mut events = source.follow(scope);
        // Weak: the copy's last user ends the task.
        let weak: Weak<Self> = Arc::downgrade(&copy);
        let follower = tokio::spawn(async move {
            let mut relisted: Option<HashSet<ObjectKey>> = None;
            while let Some(event) = events.next().await {
                let Some(copy) = weak.upgrade() else { return };
                copy.hear(event, &mut relisted);
            }
        });
        *copy.follower.lock() = Some(follower.abort_handle());
        copy
    }

    /// `relisted` has the keys seen since a restart; those that aren't in it at the next `Synced` are gone.
    fn hear(&self, event: SourceEvent, relisted: &mut Option<HashSet<ObjectKey>>) {
        match event {
            SourceEvent::Restart => *relisted = Some(HashSet::new()),
            SourceEvent::Synced => {
                if let Some(seen) = relisted.take() {
                    let gone: Vec<_> =
                        self.state.read().objects.keys().filter(|key| !seen.contains(key)).cloned().collect();
                    for key in gone {
                        self.change(key, None);
                    }
                }
                self.synced.send_replace(true);
            }
            SourceEvent::Applied(object) => {
                if let Some(seen) = relisted {
                    seen.insert(object.key.clone());
                }
                let revision = object.revision;
                self.change(object.key.clone(), Some(object));
                // While it is listed anew, objects come in the order of their names, and those that are gone are still
                // here.
                if relisted.is_none() {
                    self.reach(revision);
                }
            }
            SourceEvent::Deleted(object) => {
                self.change(object.key.clone(), None);
                self.reach(object.revision);
            }
            SourceEvent::Reached(revision) => self.reach(revision),
        }
    }

    fn reach(&self, revision: u64) {
        self.reached.send_if_modified(|reached| {
            let further = revision > *reached;
            *reached = revision.max(*reached);
            further
        });
    }

    fn change(&self, key: ObjectKey, new: Option<Arc<Object>>) {
        let subscribers = self.subscribers.lock();
        let old = self.state.write().put(key, new.clone());
        let unchanged = match (&old, &new) {
            (Some(old), Some(new)) => old.revision == new.revision && old.meta.uid == new.meta.uid,
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        let change = Change { old, new };
        for subscriber in subscribers.iter() {
            subscriber(&change);
        }
    }
}

impl State {
    fn put(&mut self, key: ObjectKey, new: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let old = match &new {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        for owner in old.iter().flat_map(|object| &object.meta.owner_references) {
            if let Some(keys) = self.owned.get_mut(&owner.uid) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
        for owner in new.iter().flat_map(|object| &object.meta.owner_references) {
            self.owned.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::BoxStream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    /// Says what the test sends.
    struct Script(Mutex<Option<mpsc::UnboundedReceiver<SourceEvent>>>);

    /// Keeps a sender for each scope followed; it is closed once nobody follows any more.
    #[derive(Default)]
    struct Followed(Mutex<Vec<(Scope, mpsc::UnboundedSender<SourceEvent>)>>);

    impl Source for Followed {
        fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
            let (say, events) = mpsc::unbounded_channel();
            self.0.lock().push((scope, say));
            UnboundedReceiverStream::new(events).boxed()
        }
    }

    #[tokio::test]
    async fn a_part_of_a_kind_is_followed_as_long_as_somebody_asks() {
        let source = Arc::new(Followed::default());
        let informers = Informers::new(source.clone());
        let one = || informers.scoped::<ConfigMap>(Scope { fields: "metadata.name=a".into(), ..Scope::default() });
        let (first, second) = (one(), one());
        drop(informers.of::<ConfigMap>());
        let followed = || source.0.lock().iter().map(|(scope, _)| scope.fields.clone()).collect::<Vec<_>>();
        assert_eq!(followed(), ["metadata.name=a", ""]);
        drop((first, second));
        let part = source.0.lock()[0].1.clone();
        part.closed().await;
        let whole = source.0.lock()[1].1.clone();
        assert!(!whole.is_closed());
        drop(one());
        assert_eq!(followed().len(), 3);
    }

    impl Source for Script {
        fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
            assert_eq!(scope.plural, "configmaps");
            let events = self.0.lock().take().expect("followed once, though asked twice");
            UnboundedReceiverStream::new(events).boxed()
        }
    }

    fn object(name: &str, revision: u64, owner: &str) -> Arc<Object> {
        let json = serde_json::json!({
            "metadata": {
                "namespace": "n", "name": name, "uid": name, "resourceVersion": revision.to_string(),
                "ownerReferences": [{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": owner }],
            },
            "data": { "revision": revision.to_string() },
        });
        Arc::new(Object::decode(json.to_string().into()).expect("well-formed"))
    }

    #[tokio::test]
    async fn subscribers_hear_differences_even_over_a_restart() {
        let (say, script) = mpsc::unbounded_channel();
        let informers = Informers::new(Arc::new(Script(Mutex::new(Some(script)))));
        let informer = informers.of::<ConfigMap>();
        let again = informers.of::<ConfigMap>();
        let (heard, mut hear) = mpsc::unbounded_channel();
        let tell = |event| say.send(event).expect("the informer listens");

        tell(SourceEvent::Restart);
        tell(SourceEvent::Applied(object("a", 1, "u")));
        tell(SourceEvent::Applied(object("b", 2, "u")));
        tell(SourceEvent::Synced);
        again.synced().await;
        assert_eq!(informer.owned_by("u").len(), 2);
        informer.subscribe(move |change| {
            let side = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.revision);
            let told = (change.object().key.name.clone(), side(&change.old), side(&change.new));
            heard.send(told).expect("the test listens");
        });
        tell(SourceEvent::Applied(object("a", 3, "v")));
        tell(SourceEvent::Restart);
        tell(SourceEvent::Applied(object("a", 3, "v")));
        tell(SourceEvent::Applied(object("c", 4, "v")));
        tell(SourceEvent::Synced);

        let expected = [("a", 0, 1), ("b", 0, 2), ("a", 1, 3), ("c", 0, 4), ("b", 2, 0)];
        for (name, old, new) in expected {
            assert_eq!(hear.recv().await, Some((name.to_owned(), old, new)));
        }
        assert!(informer.owned_by("u").is_empty());
        assert_eq!(informer.list_in("n").len(), 2);
        let view = informer.get("n", "a").expect("present");
        assert_eq!(view.data.as_ref().and_then(|d| d.get("revision")).map(String::as_str), Some("3"));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_revision_sees_all_that_was_written_before_it() {
        let (say, script) = mpsc::unbounded_channel();
        let informers = Informers::new(Arc::new(Script(Mutex::new(Some(script)))));
        let informer = informers.of::<ConfigMap>();
        let tell = |event| say.send(event).expect("the informer listens");
        let is_reached = |revision| {
            let informer = informer.clone();
            async move {
                tokio::select! {
                    biased;
                    () = informer.reached(revision) => true,
                    () = async { while informer.list().len() < 3 { tokio::task::yield_now().await } } => false,
                }
            }
        };

        tell(SourceEvent::Applied(object("a", 3, "u")));
        informer.reached(3).await;
        tell(SourceEvent::Restart);
        tell(SourceEvent::Applied(object("b", 9, "u")));
        tell(SourceEvent::Applied(object("c", 5, "u")));
        assert!(!is_reached(9).await, "b is here, but what else was written before 9 isn't known yet");
        tell(SourceEvent::Synced);
        tell(SourceEvent::Reached(9));
        informer.reached(9).await;
        assert_eq!(informer.list().len(), 2, "a is gone");
        tell(SourceEvent::Deleted(object("b", 11, "u")));
        informer.reached(10).await;
        assert_eq!(informer.list().len(), 1);
    }
}
