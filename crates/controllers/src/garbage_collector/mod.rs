//! garbage-collector-controller: an object goes with the last of its owners, before them if they ask for that, and
//! forgets those that want it to stay.

mod decide;
mod graph;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};
use tug_api::Object;
use tug_client::{Change, Next, Queue, Recorder};

use self::decide::{FOREGROUND, ORPHAN, Owner, Step as Decision, waits_for_dependents, waits_for_orphans};
use self::graph::{Graph, Item, kind_of};
use crate::controller::{Context, Controller};
use crate::error::{Result, Step, unless_gone};
use crate::resources::{api, collected, follow, reference};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "garbage-collector-controller", account: "generic-garbage-collector", run };

/// As many as upstream's `--concurrent-gc-syncs`.
const WORKERS: usize = 20;

struct Collector {
    client: kube::Client,
    recorder: Recorder,
    graph: Graph,
    queue: Queue<Item>,
}

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // Owners are looked up once all kinds are here, else each would have to be asked for.
        let graph = Graph::new(follow(&context.informers, collected()).await);
        let collector = Arc::new(Collector {
            client: context.client.clone(),
            recorder: context.recorder("garbage-collector-controller"),
            graph,
            queue: Queue::new(),
        });
        for (kind, followed) in collector.graph.followed().iter().enumerate() {
            let weak = Arc::downgrade(&collector);
            followed.informer.subscribe(move |change| {
                if let Some(collector) = weak.upgrade() {
                    collector.hear(kind, change);
                }
            });
        }
        let queue = collector.queue.clone();
        let reconcile = |item: Item| {
            let collector = collector.clone();
            async move { collector.reconcile(&item).await }
        };
        context.work(queue, WORKERS, reconcile).await;
    })
}

// What changes ask for.
impl Collector {
    fn hear(&self, kind: usize, change: &Change) {
        let was_replaced = matches!((&change.old, &change.new), (Some(old), Some(new)) if old.meta.uid != new.meta.uid);
        if let Some(old) = &change.old
            && (was_replaced || change.new.is_none())
        {
            self.hear_gone(old);
        }
        let Some(new) = &change.new else { return };
        let old = change.old.as_ref().filter(|_| !was_replaced);
        if let Some(old) = old {
            self.hear_unblocked(old, new);
        }
        let item = || self.graph.item(kind, &new.key);
        if waits_for_orphans(&new.meta) || waits_for_dependents(&new.meta) {
            return self.queue.add(item());
        }
        let owners = &new.meta.owner_references;
        let is_known = old.is_some_and(|old| old.meta.owner_references == *owners);
        if new.meta.deletion_timestamp.is_none()
            && !is_known
            && owners.iter().any(|reference| !self.is_solid(reference, &new.meta.namespace))
        {
            self.queue.add(item());
        }
    }

    /// Its dependents may have no owner left, its owners may have waited for it.
    fn hear_gone(&self, gone: &Object) {
        for (dependent, _) in self.graph.dependents(&gone.meta.uid) {
            self.queue.add(dependent);
        }
        for reference in &gone.meta.owner_references {
            self.wake_waiting(reference, &gone.meta.namespace);
        }
    }

    /// Owners that were blocked by `old` and aren't by `new`.
    fn hear_unblocked(&self, old: &Object, new: &Object) {
        let blocks = |reference: &&OwnerReference| reference.block_owner_deletion == Some(true);
        let still = |uid: &str| new.meta.owner_references.iter().filter(blocks).any(|reference| reference.uid == uid);
        for reference in old.meta.owner_references.iter().filter(blocks) {
            if !still(&reference.uid) {
                self.wake_waiting(reference, &new.meta.namespace);
            }
        }
    }

    fn wake_waiting(&self, reference: &OwnerReference, namespace: &str) {
        let owner = self.graph.owner_object(reference, namespace);
        if owner.is_some_and(|owner| waits_for_dependents(&owner.meta))
            && let Some(item) = self.graph.owner(reference, namespace)
        {
            self.queue.add(item);
        }
    }

    /// As far as is known here; what isn't known may be there all the same.
    fn is_solid(&self, reference: &OwnerReference, namespace: &str) -> bool {
        self.graph.owner_object(reference, namespace).is_some_and(|owner| !waits_for_dependents(&owner.meta))
    }
}

// What is done about an object.
impl Collector {
    async fn reconcile(&self, item: &Item) -> Result<Next> {
        let Some(object) = self.graph.object(item) else { return Ok(Next::Wait) };
        if waits_for_orphans(&object.meta) {
            return self.orphan_dependents(item, &object).await;
        }
        if waits_for_dependents(&object.meta) {
            return self.await_dependents(item, &object).await;
        }
        if object.meta.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let mut owners = Vec::with_capacity(object.meta.owner_references.len());
        for reference in &object.meta.owner_references {
            match self.owner(item, &object, reference).await? {
                Some(owner) => owners.push(owner),
                None => return Ok(Next::Wait),
            }
        }
        match decide::step(&object.meta, &owners, self.graph.has_dependents(&object.meta.uid)) {
            Decision::Keep => {}
            Decision::Unlink(uids) => {
                let kept = object.meta.owner_references.iter().filter(|reference| !uids.contains(&reference.uid));
                self.set_owners(item, &object, kept.cloned().collect()).await?;
            }
            Decision::Unblock => {
                let mut owners = object.meta.owner_references.clone();
                for reference in &mut owners {
                    reference.block_owner_deletion = Some(false);
                }
                // The change brings this object here again.
                self.set_owners(item, &object, owners).await?;
            }
            Decision::Delete(propagation) => self.delete(item, &object, propagation).await?,
        }
        Ok(Next::Wait)
    }

    /// What became of an owner: as the copies say, and where they say that it is gone, as the API says. `None` if that
    /// can't be told: its kind isn't served, or it is in a namespace and its dependent is not.
    async fn owner(&self, item: &Item, object: &Object, reference: &OwnerReference) -> Result<Option<Owner>> {
        let namespace = &item.key.namespace;
        if self.is_solid(reference, namespace) {
            return Ok(Some(Owner::Solid));
        }
        let Some(kind) = kind_of(reference) else { return Ok(None) };
        if kind.namespaced && namespace.is_empty() {
            return Ok(None);
        }
        let api = api(&self.client, kind, if kind.namespaced { namespace } else { "" });
        let owner = api.get_metadata_opt(&reference.name).await.step("looking for an owner")?;
        let Some(metadata) = owner.map(|owner| owner.metadata).filter(|m| m.uid.as_ref() == Some(&reference.uid))
        else {
            if kind.namespaced && self.graph.is_elsewhere(reference) {
                self.record_elsewhere(item, object, reference);
            }
            return Ok(Some(Owner::Dangling));
        };
        let is_deleting = metadata.deletion_timestamp.is_some();
        let waits = is_deleting && metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
        Ok(Some(if waits { Owner::Waiting } else { Owner::Solid }))
    }

    fn record_elsewhere(&self, item: &Item, object: &Object, reference_: &OwnerReference) {
        let OwnerReference { api_version, kind, name, uid, .. } = reference_;
        let namespace = &item.key.namespace;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] \
             does not exist in namespace {namespace:?}"
        );
        let about = reference(self.graph.kind(item), object);
        self.recorder.warning(&about, "OwnerRefInvalidNamespace", &message);
    }

    /// Once no dependent blocks it any more, the object may go.
    async fn await_dependents(&self, item: &Item, object: &Object) -> Result<Next> {
        let mut is_blocked = false;
        for (dependent, meta) in self.graph.dependents(&object.meta.uid).iter().map(|(item, o)| (item, &o.meta)) {
            let mut references = meta.owner_references.iter().filter(|reference| reference.uid == object.meta.uid);
            is_blocked |= references.any(|reference| reference.block_owner_deletion == Some(true));
            if meta.deletion_timestamp.is_none() {
                self.queue.add(dependent.clone());
            }
        }
        if !is_blocked {
            self.remove_finalizer(item, object, FOREGROUND).await?;
        }
        Ok(Next::Wait)
    }

    async fn orphan_dependents(&self, item: &Item, object: &Object) -> Result<Next> {
        let dependents = stream::iter(self.graph.dependents(&object.meta.uid));
        let forget = |(dependent, dependent_object): (Item, Arc<Object>)| async move {
            let references = dependent_object.meta.owner_references.iter();
            let kept = references.filter(|reference| reference.uid != object.meta.uid).cloned().collect();
            self.set_owners(&dependent, &dependent_object, kept).await
        };
        dependents.map(forget).buffer_unordered(WORKERS).try_collect::<()>().await?;
        self.remove_finalizer(item, object, ORPHAN).await?;
        Ok(Next::Wait)
    }

    async fn remove_finalizer(&self, item: &Item, object: &Object, finalizer: &str) -> Result<()> {
        let kept: Vec<_> = object.meta.finalizers.iter().filter(|held| *held != finalizer).collect();
        self.patch(item, object, json!({ "finalizers": none_if_empty(json!(kept)) })).await
    }

    async fn set_owners(&self, item: &Item, object: &Object, owners: Vec<OwnerReference>) -> Result<()> {
        self.patch(item, object, json!({ "ownerReferences": none_if_empty(json!(owners)) })).await
    }

    /// On condition that the object is still as it was when this was decided; else it comes here again.
    async fn patch(&self, item: &Item, object: &Object, mut metadata: Value) -> Result<()> {
        metadata["resourceVersion"] = object.meta.resource_version.as_str().into();
        metadata["uid"] = object.meta.uid.as_str().into();
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let api = api(&self.client, self.graph.kind(item), &item.key.namespace);
        let patched = api.patch_metadata(&item.key.name, &PatchParams::default(), &patch).await;
        unless_gone(patched).step("patching references or finalizers")?;
        Ok(())
    }

    async fn delete(&self, item: &Item, object: &Object, propagation: PropagationPolicy) -> Result<()> {
        tracing::debug!(%item, ?propagation, "its owners are gone");
        let preconditions = Preconditions {
            uid: Some(object.meta.uid.clone()),
            resource_version: Some(object.meta.resource_version.clone()),
        };
        let delete = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let api = api(&self.client, self.graph.kind(item), &item.key.namespace);
        unless_gone(api.delete(&item.key.name, &delete).await).step("deleting a dependent")?;
        Ok(())
    }
}

fn none_if_empty(list: Value) -> Value {
    if list.as_array().is_some_and(Vec::is_empty) { Value::Null } else { list }
}
