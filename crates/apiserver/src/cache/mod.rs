//! Every stored object in memory, once, and the recent changes of each kind. Fed by one watch of the store; GETs, LISTs
//! and watches are answered from here, and a write waits until it shows here, so that whoever wrote reads it back.

mod feed;
mod select;
mod watchers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tug_api::{Kind, Object, ObjectKey};
use tug_store::Revision;

pub use select::Select;
pub use watchers::{Subscription, WatchEvent, WatchKind};

use crate::codec;
use crate::status::Status;

/// Changes of a kind that a watch may still start from.
const RING_EVENTS: usize = 1000;
/// The same bound in bytes of JSON, for kinds with large objects.
const RING_BYTES: usize = 1 << 20;
/// How long a request waits for a revision that it knows of and we don't, as upstream.
const CATCH_UP: Duration = Duration::from_secs(3);

/// One change of one object.
#[derive(Clone)]
pub struct Change {
    pub revision: Revision,
    pub old: Option<Arc<Object>>,
    /// `None`: deleted.
    pub new: Option<Arc<Object>>,
    /// `old` with `revision`: what those see for whom the object is gone.
    gone: Arc<OnceLock<Arc<Object>>>,
}

pub struct Cache {
    state: RwLock<State>,
    /// The revision up to which `state` has followed the store.
    applied: watch::Sender<Revision>,
}

struct State {
    applied: Revision,
    kinds: HashMap<(&'static str, &'static str), KindState>,
}

struct KindState {
    kind: &'static Kind,
    /// By `namespace/name`, or name: in the store's order, so that a listing may go on there.
    objects: BTreeMap<String, Arc<Object>>,
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// Every change after this revision is in the ring.
    ring_after: Revision,
    /// Of the newest change.
    changed: Revision,
    watchers: Vec<watchers::Watcher>,
}

/// Objects as they were at one revision.
pub struct Snapshot {
    pub objects: Vec<Arc<Object>>,
    pub revision: Revision,
    /// How many matched but weren't taken, for `limit`.
    pub remaining: usize,
}

/// `namespace/name`, or the name alone.
pub fn path_key(key: &ObjectKey) -> String {
    key.to_string()
}

/// `/registry/<group or core>/<plural>/`.
pub fn store_prefix(kind: &Kind) -> String {
    format!("/registry/{}/{}/", if kind.group.is_empty() { "core" } else { kind.group }, kind.plural)
}

pub fn store_key(kind: &Kind, key: &ObjectKey) -> String {
    format!("{}{key}", store_prefix(kind))
}

// === impl Change ===

impl Change {
    fn new(revision: Revision, old: Option<Arc<Object>>, new: Option<Arc<Object>>) -> Self {
        Self { revision, old, new, gone: Arc::default() }
    }

    /// The last state, at this change's revision.
    pub fn gone(&self) -> Option<Arc<Object>> {
        let old = self.old.as_ref()?;
        Some(self.gone.get_or_init(|| restamped(old, self.revision)).clone())
    }

    fn bytes(&self) -> usize {
        self.new.as_ref().or(self.old.as_ref()).map_or(0, |object| object.json().len())
    }
}

fn restamped(object: &Arc<Object>, revision: Revision) -> Arc<Object> {
    let Some(json) = codec::stamp(object.json(), revision) else { return object.clone() };
    let mut meta = object.meta.clone();
    meta.resource_version = revision.to_string();
    Arc::new(Object::from_parts(meta, json))
}

// === impl Cache ===

impl Cache {
    /// An empty cache for every kind that is stored.
    pub fn new() -> Self {
        let stored = tug_api::kinds::all().iter().filter(|k| k.stored_as.is_none() && k.verbs.contains(&"get"));
        let kinds = stored.map(|kind| ((kind.group, kind.plural), KindState::new(kind))).collect();
        Self { state: RwLock::new(State { applied: 0, kinds }), applied: watch::Sender::new(0) }
    }

    pub fn get(&self, kind: &'static Kind, key: &ObjectKey) -> Option<Arc<Object>> {
        self.state.read().of(kind)?.objects.get(&path_key(key)).cloned()
    }

    /// All that `select` takes, behind the key `after`, `limit` at the most (0: all).
    pub fn list(&self, kind: &'static Kind, select: &Select, after: Option<&str>, limit: usize) -> Snapshot {
        let state = self.state.read();
        let revision = state.applied;
        let Some(of_kind) = state.of(kind) else {
            return Snapshot { objects: Vec::new(), revision, remaining: 0 };
        };
        let all: Vec<&Arc<Object>> = of_kind.range(&select.namespace, after).collect();
        if limit == 0 || all.len() <= limit {
            // Decoding for field selectors is done on clones, past the lock.
            let objects: Vec<Arc<Object>> = all.into_iter().cloned().collect();
            drop(state);
            let objects = select.filter(kind, objects);
            return Snapshot { objects, revision, remaining: 0 };
        }
        let mut objects = Vec::with_capacity(limit);
        let mut rest = all.into_iter();
        let mut remaining = 0;
        for object in rest.by_ref() {
            if !select.matches(kind, object) {
                continue;
            }
            if objects.len() == limit {
                remaining = 1 + rest.len();
                break;
            }
            objects.push(object.clone());
        }
        Snapshot { objects, revision, remaining }
    }

    /// The revision up to which the cache has followed the store.
    pub fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// The revision of the newest change of a kind.
    pub fn changed(&self, kind: &'static Kind) -> Revision {
        self.state.read().of(kind).map_or(0, |of_kind| of_kind.changed)
    }

    /// Numbers of objects by kind, for `/metrics`.
    pub fn counts(&self) -> Vec<(&'static Kind, usize)> {
        self.state.read().kinds.values().map(|of_kind| (of_kind.kind, of_kind.objects.len())).collect()
    }

    /// Returns once the cache holds `revision`, which the store has given out.
    pub async fn holds(&self, revision: Revision) {
        // An error would mean that the cache is gone, and with it whoever waits here.
        let _ = self.applied.subscribe().wait_for(|at| *at >= revision).await;
    }

    /// Returns once `is_so`, which is asked again after each change; at the latest after `patience`.
    pub async fn until(&self, patience: Duration, is_so: impl Fn() -> bool) {
        let mut applied = self.applied.subscribe();
        let changes = async { while !is_so() && applied.changed().await.is_ok() {} };
        // Whoever waits goes on either way.
        let _ = tokio::time::timeout(patience, changes).await;
    }

    /// Returns once the cache holds `revision`, which a client has named.
    ///
    /// # Errors
    /// 504 if that takes more than three seconds, as for a revision that was never given out.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Status> {
        let mut applied = self.applied.subscribe();
        let caught_up = applied.wait_for(|at| *at >= revision);
        match tokio::time::timeout(CATCH_UP, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::too_new(revision, self.revision())),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

// === impl State ===

impl State {
    fn of(&self, kind: &'static Kind) -> Option<&KindState> {
        let kind = kind.storage();
        self.kinds.get(&(kind.group, kind.plural))
    }

    fn of_mut(&mut self, kind: &'static Kind) -> Option<&mut KindState> {
        let kind = kind.storage();
        self.kinds.get_mut(&(kind.group, kind.plural))
    }
}

// === impl KindState ===

impl KindState {
    fn new(kind: &'static Kind) -> Self {
        Self {
            kind,
            objects: BTreeMap::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_after: 0,
            changed: 0,
            watchers: Vec::new(),
        }
    }

    /// Objects of a namespace (all when empty) behind a key.
    fn range<'a>(&'a self, namespace: &str, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        use std::ops::Bound;
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let start = match after {
            Some(key) if key >= prefix.as_str() => Bound::Excluded(key.to_owned()),
            _ => Bound::Included(prefix.clone()),
        };
        let in_namespace = self.objects.range((start, Bound::Unbounded));
        in_namespace.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
    }

    /// Takes in a change and tells the watchers.
    fn apply(&mut self, key: &str, new: Option<Arc<Object>>, revision: Revision) {
        let old = match &new {
            Some(object) => self.objects.insert(key.to_owned(), object.clone()),
            None => self.objects.remove(key),
        };
        self.changed = revision;
        if old.is_none() && new.is_none() {
            return;
        }
        let change = Arc::new(Change::new(revision, old, new));
        self.ring_bytes += change.bytes();
        self.ring.push_back(change.clone());
        while self.ring.len() > RING_EVENTS || (self.ring_bytes > RING_BYTES && self.ring.len() > 1) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.bytes();
            self.ring_after = oldest.revision;
        }
        let kind = self.kind;
        self.watchers.retain(|watcher| watcher.tell(kind, &change));
    }
}
