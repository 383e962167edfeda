//! namespace-controller: a namespace being deleted is emptied, pods first, and let go once nothing is in it. What is
//! left says so by its own deletion; nothing is asked twice without need.

mod conditions;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tug_api::ObjectKey;
use tug_client::{Change, Informer, Next, Queue};

use self::conditions::conditions;
use crate::controller::{Context, Controller};
use crate::error::{Error, Result, Step, unless_gone};
use crate::resources::{Followed, collected, follow};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "namespace-controller", account: "namespace-controller", run };

/// As many as upstream's `--concurrent-namespace-syncs`.
const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";
/// While much is being deleted, what remains is counted this often.
const COUNT_AFTER: Duration = Duration::from_secs(1);

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = Queue::<String>::new();
        let namespaces: Informer<Namespace> = context.informers.of();
        let add = queue.clone();
        namespaces.subscribe(move |change| {
            if let Some(namespace) = change.new.as_ref().filter(|new| new.meta.deletion_timestamp.is_some()) {
                add.add(namespace.key.name.clone());
            }
        });
        let content = follow(&context.informers, collected().filter(|kind| kind.namespaced)).await;
        for Followed { informer, .. } in content {
            let (queue, namespaces, objects) = (queue.clone(), namespaces.clone(), informer.clone());
            informer.subscribe(move |change| hear(change, &namespaces, &objects, &queue));
        }
        let client = Arc::new(context.client.clone());
        let reconcile = |namespace: String| {
            let client = client.clone();
            async move { reconcile(&client, &namespace).await }
        };
        context.work(queue, WORKERS, reconcile).await;
    })
}

/// Content that goes, or that a finalizer lets go of, may be the last that its namespace waits for.
fn hear(
    change: &Change,
    namespaces: &Informer<Namespace>,
    objects: &Informer<serde_json::Value>,
    queue: &Queue<String>,
) {
    let finalizers = |object: &Arc<tug_api::Object>| object.meta.finalizers.len();
    let (Some(old), new) = (&change.old, &change.new) else { return };
    if new.as_ref().is_some_and(|new| finalizers(new) == finalizers(old)) {
        return;
    }
    let namespace = &old.key.namespace;
    let is_terminating = namespaces.object(&ObjectKey::new("", namespace));
    if is_terminating.is_none_or(|object| object.meta.deletion_timestamp.is_none()) {
        return;
    }
    if objects.objects_in(namespace).is_empty() {
        queue.add(namespace.clone());
    } else {
        queue.add_after(namespace.clone(), COUNT_AFTER);
    }
}

async fn reconcile(client: &kube::Client, name: &str) -> Result<Next> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let Some(mut namespace) = namespaces.get_opt(name).await.step("reading the namespace")? else {
        return Ok(Next::Wait);
    };
    let finalizers =
        |namespace: &Namespace| namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers(&namespace).iter().any(|held| held == FINALIZER) {
        return Ok(Next::Wait);
    }
    loop {
        let content = sweep::sweep(client, name).await;
        let is_news = set_status(&mut namespace, &content);
        if is_news {
            let updated = namespaces.replace_status(name, &PostParams::default(), &namespace).await;
            let Some(updated) = unless_gone(updated).step("updating the namespace's status")? else {
                return Ok(Next::Wait);
            };
            namespace = updated;
        }
        if !content.failures.is_empty() {
            return Err(Error::Unfinished { failures: content.failures.join(", ") });
        }
        if !content.is_empty() {
            return Ok(Next::Wait);
        }
        // After a write, so that what was let in while the namespace was still active shows by now.
        if !is_news {
            break;
        }
    }
    let kept = finalizers(&namespace).into_iter().filter(|held| held != FINALIZER).collect();
    namespace.spec.get_or_insert_default().finalizers = Some(kept);
    let finalized = namespaces.replace_subresource("finalize", name, &PostParams::default(), &namespace).await;
    unless_gone(finalized).step("letting the namespace go")?;
    Ok(Next::Wait)
}

/// True if that changed something.
fn set_status(namespace: &mut Namespace, content: &conditions::Content) -> bool {
    let before = namespace.status.clone().unwrap_or_default();
    let now = Time(Timestamp::now());
    let conditions = conditions(content, before.conditions.as_deref().unwrap_or_default(), &now);
    let status = namespace.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    status.conditions = Some(conditions);
    *status != before
}
