//! root-ca-certificate-publisher-controller: each active namespace has the ConfigMap `kube-root-ca.crt`, by which its
//! pods know the API server.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tug_api::ObjectKey;
use tug_client::{Informer, Next, Queue};

use crate::controller::{Context, Controller};
use crate::error::{Result, Step, unless_gone, unless_there_or_terminating};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "root-ca-certificate-publisher-controller", account: "root-ca-cert-publisher", run };

/// Enough that many namespaces made at once share a few commits.
const WORKERS: usize = 5;
const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
/// Upstream's text, which people see in `kubectl describe`.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. \
    No other usage is guaranteed across distributions of Kubernetes clusters.";

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if context.settings.root_ca.is_empty() {
            return;
        }
        let queue = Queue::<String>::new();
        let namespaces: Informer<Namespace> = context.informers.of();
        let config_maps: Informer<ConfigMap> = context.informers.of();
        config_maps.synced().await;
        let add = queue.clone();
        namespaces.subscribe(move |change| {
            if let Some(namespace) = &change.new {
                add.add(namespace.key.name.clone());
            }
        });
        let add = queue.clone();
        config_maps.subscribe(move |change| {
            let key = &change.object().key;
            if key.name == NAME {
                add.add(key.namespace.clone());
            }
        });
        let (context, namespaces, config_maps) = (&context, &namespaces, &config_maps);
        let reconcile = async |namespace: String| {
            let object = namespaces.object(&ObjectKey::new("", &namespace));
            if object.is_none_or(|object| object.meta.deletion_timestamp.is_some()) {
                return Ok(Next::Wait);
            }
            let there = config_maps.get(&namespace, NAME);
            publish(context, &namespace, there.as_deref()).await
        };
        context.work(queue, WORKERS, reconcile).await;
    })
}

async fn publish(context: &Context, namespace: &str, there: Option<&ConfigMap>) -> Result<Next> {
    let Some(wanted) = wanted(&context.settings.root_ca, there) else { return Ok(Next::Wait) };
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    if there.is_none() {
        let made = api.create(&PostParams::default(), &wanted).await;
        unless_there_or_terminating(made).step("publishing the root CA")?;
    } else {
        let replaced = api.replace(NAME, &PostParams::default(), &wanted).await;
        unless_gone(replaced).step("correcting the published root CA")?;
    }
    Ok(Next::Wait)
}

/// `None` if what is there is right.
fn wanted(root_ca: &str, there: Option<&ConfigMap>) -> Option<ConfigMap> {
    let data = Some(BTreeMap::from([(KEY.to_owned(), root_ca.to_owned())]));
    let mut wanted = there.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    });
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    // Upstream leaves another text than its own alone.
    let is_described = annotations.get(ANNOTATION).is_some_and(|text| !text.is_empty());
    if wanted.data == data && is_described {
        return None;
    }
    annotations.insert(ANNOTATION.into(), DESCRIPTION.into());
    wanted.data = data;
    Some(wanted)
}
