//! Deletes what is in a namespace and counts what stays.

use futures::stream::{self, StreamExt};
use kube::Error;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta};
use tug_api::Kind;
use tug_api::kinds::{self, core};

use super::conditions::Content;
use crate::resources::api;

/// Kinds at once.
const AT_ONCE: usize = 16;

/// Everything else waits until the last pod is gone, for pods may need it to end well (upstream's
/// `OrderedNamespaceDeletion`).
pub(super) async fn sweep(client: &kube::Client, namespace: &str) -> Content {
    let pods = empty(client, &core::POD, namespace).await;
    if !pods.is_empty() {
        return pods;
    }
    let others = kinds::all().iter().copied().filter(|kind| is_content(kind) && !std::ptr::eq(*kind, &core::POD));
    // Collected, for the compiler can't tell that a stream of the closures could move between threads.
    let parts: Vec<_> = others.map(|kind| empty(client, kind, namespace)).collect();
    let mut parts = stream::iter(parts).buffer_unordered(AT_ONCE);
    let mut content = Content::default();
    while let Some(part) = parts.next().await {
        content.extend(part);
    }
    content
}

fn is_content(kind: &Kind) -> bool {
    kind.namespaced && kind.stored_as.is_none() && ["delete", "list"].iter().all(|verb| kind.verbs.contains(verb))
}

async fn empty(client: &kube::Client, kind: &'static Kind, namespace: &str) -> Content {
    let mut content = Content::default();
    match try_empty(client, kind, namespace).await {
        Ok(left) => count(&mut content, kind, namespace, &left),
        Err(Error::Api(status)) => content.failures.push(status.message),
        Err(error) => content.failures.push(error.to_string()),
    }
    content
}

/// What is left of a kind.
async fn try_empty(client: &kube::Client, kind: &'static Kind, namespace: &str) -> kube::Result<Vec<ObjectMeta>> {
    let api = api(client, kind, namespace);
    let there = list(&api).await?;
    if there.iter().all(|metadata| metadata.deletion_timestamp.is_some()) {
        return Ok(there);
    }
    // Dependents are in the namespace too: nobody needs to look after them.
    api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
    list(&api).await
}

async fn list(api: &Api<DynamicObject>) -> kube::Result<Vec<ObjectMeta>> {
    let listed = api.list_metadata(&ListParams::default()).await?;
    Ok(listed.items.into_iter().map(|object| object.metadata).collect())
}

fn count(content: &mut Content, kind: &Kind, namespace: &str, left: &[ObjectMeta]) {
    if left.is_empty() {
        return;
    }
    content.objects.insert(format!("{}.{}", kind.plural, kind.group), left.len());
    for finalizer in left.iter().flat_map(|metadata| metadata.finalizers.iter().flatten()) {
        *content.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    if left.iter().any(|metadata| metadata.deletion_timestamp.is_none()) {
        let resource = match kind.group {
            "" => format!("/{}, Resource={}", kind.version, kind.plural),
            _ => format!("{}, Resource={}", kind.api_version(), kind.plural),
        };
        let why = format!("unexpected items still remain in namespace: {namespace} for gvr: {resource}");
        content.failures.push(why);
    }
}
