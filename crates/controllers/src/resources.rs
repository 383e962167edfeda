//! All kinds alike: requests about objects by their entry in the table of kinds, and copies of every kind's objects.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use tug_api::{Kind, Object, kinds};
use tug_client::{Informer, Informers, Scope};

/// A kind whose objects are followed for their metadata.
pub(crate) struct Followed {
    pub kind: &'static Kind,
    pub informer: Informer<serde_json::Value>,
}

/// Requests about objects of `kind` in a namespace (empty for cluster-scoped kinds).
pub(crate) fn api(client: &kube::Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: kind.group.into(),
        version: kind.version.into(),
        api_version: kind.api_version(),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
    };
    match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

/// Kinds whose objects come and go, each object under one of them only. Events are left out, as upstream leaves them
/// out of its graph: they are many, and nothing depends on them.
pub(crate) fn collected() -> impl Iterator<Item = &'static Kind> {
    let needed = ["delete", "list", "watch"];
    kinds::all().iter().copied().filter(move |kind| {
        kind.stored_as.is_none() && kind.plural != "events" && needed.iter().all(|verb| kind.verbs.contains(verb))
    })
}

/// Copies of all objects of `kinds`, complete when this returns.
pub(crate) async fn follow(informers: &Informers, kinds: impl Iterator<Item = &'static Kind>) -> Vec<Followed> {
    let follow = |kind: &'static Kind| {
        let scope = Scope {
            group: kind.group.into(),
            version: kind.version.into(),
            plural: kind.plural.into(),
            ..Scope::default()
        };
        Followed { kind, informer: informers.untyped(scope) }
    };
    let followed: Vec<Followed> = kinds.map(follow).collect();
    for Followed { informer, .. } in &followed {
        informer.synced().await;
    }
    followed
}

/// What an owner reference or an event says of an object's kind.
pub(crate) fn reference(kind: &Kind, object: &Object) -> k8s_openapi::api::core::v1::ObjectReference {
    let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(kind.api_version()),
        kind: Some(kind.kind.into()),
        namespace: said(&object.meta.namespace),
        name: said(&object.meta.name),
        uid: said(&object.meta.uid),
        ..Default::default()
    }
}
