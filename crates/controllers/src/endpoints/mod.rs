//! Endpoints: what Services had before EndpointSlices, kept for those who still read them.

mod subsets;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints, Service};
use serde_json::{Value, json};
use tug_api::kinds::core::{ENDPOINTS, SERVICE};
use tug_api::{Object, ObjectKey};
use tug_client::{Informer, Next, Queue, Recorder};

use crate::collection::Collection;
use crate::controller::{Context, Controller};
use crate::error::{Error, Result, Step, code, is_namespace_terminating, message};
use crate::pods::Pods;
use crate::resources::reference;
use crate::service_pods::{self, is_headless, pods_of};

use subsets::{MOST_ADDRESSES, subsets, truncate};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "endpoints-controller", account: "endpoint-controller", run: |context| run(context).boxed() };

/// Services worked on at once.
const WORKERS: usize = 5;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRUNCATED: &str = "truncated";
const HEADLESS: &str = "service.kubernetes.io/headless";

struct EndpointsOfServices {
    client: kube::Client,
    recorder: Recorder,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    pods: Arc<Pods>,
}

async fn run(context: Context) {
    let (services, endpoints) = (context.informers.of(), context.informers.of::<Endpoints>());
    let (pods, queue) = (context.pods.clone(), Queue::new());
    service_pods::wake(&queue, &services, &pods.informer);
    let add = queue.clone();
    endpoints.subscribe(move |change| {
        // Others' are left alone, also those that have no Service.
        if [&change.old, &change.new].into_iter().flatten().any(|object| is_managed(object)) {
            add.add(change.object().key.clone());
        }
    });
    services.synced().await;
    endpoints.synced().await;
    pods.informer.synced().await;
    let (client, recorder) = (context.client.clone(), context.recorder("endpoint-controller"));
    let controller = EndpointsOfServices { client, recorder, services, endpoints, pods };
    context.work(queue, WORKERS, |key| controller.reconcile(key)).await;
}

fn is_managed(endpoints: &Object) -> bool {
    endpoints.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

// === impl EndpointsOfServices ===

impl EndpointsOfServices {
    async fn reconcile(&self, key: ObjectKey) -> Result<Next> {
        let collection = Collection::new(&self.client, &ENDPOINTS, &key.namespace);
        let current = self.endpoints.object(&key);
        let Some(object) = self.services.object(&key) else {
            return self.delete(&collection, current.as_deref()).await;
        };
        let service = object.typed::<Service>().map_err(|error| Error::Unreadable(error.to_string()))?;
        let Some(pods) = pods_of(&service, &self.pods.all_in(&key.namespace)) else { return Ok(Next::Wait) };
        let mut wanted = subsets(&object, &service, &pods);
        let is_truncated = truncate(&mut wanted, MOST_ADDRESSES);
        let labels = labels(&object, &service);
        let Some(value) = next(current.as_deref(), &object, labels, wanted, is_truncated)? else {
            return Ok(Next::Wait);
        };
        let written = match &current {
            None => collection.create(value.to_string().into()).await,
            Some(_) => collection.replace(&key.name, &value).await,
        };
        match written {
            Ok(written) => {
                // The next step is decided by what this one wrote.
                self.endpoints.reached(written.revision).await;
                Ok(Next::Wait)
            }
            // What was read has changed meanwhile: that change calls again.
            Err(error) if code(&error) == Some(409) || is_namespace_terminating(&error) => Ok(Next::Wait),
            Err(source) => {
                let why = message(&source);
                let (reason, text) = match &current {
                    Some(_) => ("FailedToUpdateEndpoint", format!("Failed to update endpoint {key}: {why}")),
                    None => ("FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}: {why}")),
                };
                self.recorder.warning(&reference(&SERVICE, &object), reason, &text);
                Err(Error::Api { step: "writing Endpoints", source })
            }
        }
    }

    /// The Service is gone.
    async fn delete(&self, collection: &Collection, endpoints: Option<&Object>) -> Result<Next> {
        let Some(endpoints) = endpoints else { return Ok(Next::Wait) };
        match collection.delete(&endpoints.key.name, &endpoints.meta.uid).await {
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(Next::Wait),
            other => other.map(|_| Next::Wait).step("deleting Endpoints"),
        }
    }
}

/// The Service's own, and those by which these Endpoints are known as its.
fn labels(object: &Object, service: &Service) -> BTreeMap<String, String> {
    let mut labels = object.meta.labels.clone();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// The object to write, if what is there isn't it.
fn next(
    current: Option<&Object>,
    service: &Object,
    labels: BTreeMap<String, String>,
    subsets: Vec<EndpointSubset>,
    is_truncated: bool,
) -> Result<Option<Value>> {
    let unreadable = |error: serde_json::Error| Error::Unreadable(error.to_string());
    let mut value = match current {
        None => json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": service.key.name } }),
        Some(object) => {
            let said = object.typed::<Endpoints>().map_err(unreadable)?;
            let is_marked = object.meta.annotations.get(OVER_CAPACITY).is_some_and(|mark| mark == TRUNCATED);
            if said.subsets.as_deref().unwrap_or_default() == subsets
                && object.meta.labels == labels
                && is_marked == is_truncated
            {
                return Ok(None);
            }
            object.value().map_err(unreadable)?
        }
    };
    let mut annotations = current.map(|object| object.meta.annotations.clone()).unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if is_truncated {
        annotations.insert(OVER_CAPACITY.into(), TRUNCATED.into());
    }
    value["metadata"]["labels"] = json!(labels);
    value["metadata"]["annotations"] = json!(annotations);
    value["subsets"] = json!(subsets);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, with};

    #[test]
    fn endpoints_are_written_when_they_differ() {
        let service = object("s", &json!({ "metadata": { "labels": { "a": "b" } } }));
        let labels = || BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let subset: EndpointSubset =
            serde_json::from_value(json!({ "addresses": [{ "ip": "10.0.0.1" }] })).expect("a subset");
        let first = next(None, &service, labels(), vec![subset.clone()], false).expect("readable").expect("new");
        let expected = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": "s", "labels": { "a": "b" }, "annotations": {} },
            "subsets": [{ "addresses": [{ "ip": "10.0.0.1" }] }],
        });
        assert_eq!(first, expected);

        let current = object("s", &first);
        let again =
            |labels, subsets, truncated| next(Some(&current), &service, labels, subsets, truncated).expect("readable");
        assert_eq!(again(labels(), vec![subset.clone()], false), None);
        let gone = again(labels(), vec![], false).expect("changed");
        assert_eq!(gone["subsets"], json!([]));
        assert_eq!(gone["metadata"]["resourceVersion"], "1", "only if it is what was read");
        assert!(again(BTreeMap::new(), vec![subset.clone()], false).is_some(), "other labels");
        let cut = again(labels(), vec![subset.clone()], true).expect("changed");
        assert_eq!(cut["metadata"]["annotations"], json!({ OVER_CAPACITY: "truncated" }));

        let marked =
            object("s", &with(&first, &json!({ "metadata": { "annotations": { OVER_CAPACITY: "truncated" } } })));
        let whole = next(Some(&marked), &service, labels(), vec![subset], false).expect("readable").expect("changed");
        assert_eq!(whole["metadata"]["annotations"], json!({}));
    }
}
