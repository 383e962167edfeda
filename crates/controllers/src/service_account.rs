//! serviceaccount-controller: each active namespace has a service account `default`. Pods of a new namespace wait for it,
//! so it is made at once.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tug_api::ObjectKey;
use tug_client::{Informer, Next, Queue};

use crate::controller::{Context, Controller};
use crate::error::{Result, Step, unless_there_or_terminating};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "serviceaccount-controller", account: "service-account-controller", run };

/// Enough that many namespaces made at once share a few commits.
const WORKERS: usize = 5;
const NAME: &str = "default";

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = Queue::<String>::new();
        let namespaces: Informer<Namespace> = context.informers.of();
        let accounts: Informer<ServiceAccount> = context.informers.of();
        accounts.synced().await;
        let add = queue.clone();
        namespaces.subscribe(move |change| {
            if let Some(namespace) = &change.new {
                add.add(namespace.key.name.clone());
            }
        });
        let add = queue.clone();
        accounts.subscribe(move |change| {
            if change.new.is_none() {
                add.add(change.object().key.namespace.clone());
            }
        });
        let (client, namespaces, accounts) = (&context.client, &namespaces, &accounts);
        let reconcile = async |namespace: String| {
            let object = namespaces.object(&ObjectKey::new("", &namespace));
            if object.is_none_or(|object| object.meta.deletion_timestamp.is_some())
                || accounts.object(&ObjectKey::new(&namespace, NAME)).is_some()
            {
                return Ok(Next::Wait);
            }
            make(client, &namespace).await
        };
        context.work(queue, WORKERS, reconcile).await;
    })
}

async fn make(client: &kube::Client, namespace: &str) -> Result<Next> {
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(NAME.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let made = api.create(&PostParams::default(), &account).await;
    unless_there_or_terminating(made).step("making the default service account")?;
    Ok(Next::Wait)
}
