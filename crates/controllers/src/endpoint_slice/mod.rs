//! EndpointSlices: where a Service's traffic goes. Proxies and DNS servers follow them, and nothing else.

mod desired;
mod pack;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use serde_json::Value;
use tug_api::kinds::core::SERVICE;
use tug_api::kinds::discovery::ENDPOINT_SLICE;
use tug_api::{Object, ObjectKey};
use tug_client::{Change, Informer, Next, Queue, Recorder};

use crate::collection::Collection;
use crate::controller::{Context, Controller};
use crate::error::{Error, Result, code, is_namespace_terminating, message};
use crate::pods::Pods;
use crate::resources::reference;
use crate::service_pods::{self, pods_of};

use desired::{MANAGED_BY, MANAGER, SERVICE_NAME, Subject, ZONE};
use pack::Plan;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    account: "endpointslice-controller",
    run: |context| run(context).boxed(),
};

/// Services worked on at once.
const WORKERS: usize = 5;

struct EndpointSlices {
    client: kube::Client,
    recorder: Recorder,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    of_services: Arc<OfServices>,
    nodes: Informer<Node>,
    pods: Arc<Pods>,
    most_endpoints: usize,
}

/// This controller's slices by Service, read once a change.
#[derive(Default)]
struct OfServices(RwLock<HashMap<ObjectKey, BTreeMap<String, Arc<EndpointSlice>>>>);

async fn run(context: Context) {
    let (services, slices, nodes) = (context.informers.of(), context.informers.of(), context.informers.of::<Node>());
    let (pods, queue) = (context.pods.clone(), Queue::new());
    let of_services = Arc::new(OfServices::default());
    service_pods::wake(&queue, &services, &pods.informer);
    let (add, known) = (queue.clone(), of_services.clone());
    slices.subscribe(move |change| known.note(change).into_iter().for_each(|key| add.add(key)));
    let (add, all) = (queue.clone(), services.clone());
    nodes.subscribe(move |change| {
        let zone = |node: &Option<Arc<Object>>| node.as_ref().map(|node| node.meta.labels.get(ZONE).cloned());
        if zone(&change.old) != zone(&change.new) {
            all.objects().iter().for_each(|service| add.add(service.key.clone()));
        }
    });
    services.synced().await;
    slices.synced().await;
    nodes.synced().await;
    pods.informer.synced().await;
    let controller = EndpointSlices {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
        services,
        slices,
        of_services,
        nodes,
        pods,
        most_endpoints: context.settings.max_endpoints_per_slice,
    };
    context.work(queue, WORKERS, |key| controller.reconcile(key)).await;
}

// === impl OfServices ===

impl OfServices {
    /// Returns the Services whose slices have changed.
    fn note(&self, change: &Change) -> Vec<ObjectKey> {
        let mut of_services = self.0.write();
        let old = change.old.as_deref().and_then(service_of);
        if let (Some(key), Some(object)) = (&old, &change.old)
            && let Some(slices) = of_services.get_mut(key)
        {
            slices.remove(&object.key.name);
            if slices.is_empty() {
                of_services.remove(key);
            }
        }
        let new = change.new.as_deref().and_then(service_of);
        if let (Some(key), Some(object)) = (&new, &change.new) {
            match object.typed() {
                Ok(slice) => {
                    of_services.entry(key.clone()).or_default().insert(object.key.name.clone(), slice);
                }
                Err(error) => tracing::warn!(slice = %object.key, %error, "an EndpointSlice can't be read"),
            }
        }
        [old, new].into_iter().flatten().collect()
    }

    /// Those that stay: one that is being deleted can't be used any more.
    fn get(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        let of_services = self.0.read();
        let slices = of_services.get(service).into_iter().flat_map(BTreeMap::values);
        slices.filter(|slice| slice.metadata.deletion_timestamp.is_none()).cloned().collect()
    }
}

/// The Service of a slice of this controller's.
fn service_of(slice: &Object) -> Option<ObjectKey> {
    let labels = &slice.meta.labels;
    let name = labels.get(SERVICE_NAME).filter(|_| labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER))?;
    Some(ObjectKey::new(&slice.key.namespace, name))
}

// === impl EndpointSlices ===

impl EndpointSlices {
    async fn reconcile(&self, key: ObjectKey) -> Result<Next> {
        let Some(object) = self.services.object(&key) else { return Ok(Next::Wait) };
        let service = object.typed::<Service>().map_err(|error| Error::Unreadable(error.to_string()))?;
        let Some(pods) = pods_of(&service, &self.pods.all_in(&key.namespace)) else { return Ok(Next::Wait) };
        let plan = {
            let zone = |node: &str| self.zone(node);
            let subject = Subject { object: &object, service: &service, zone: &zone };
            let types = subject.address_types().into_iter();
            let wanted = types.map(|kind| (kind, subject.groups(&pods, kind))).collect();
            pack::plan(&subject, &self.of_services.get(&key), wanted, self.most_endpoints)
        };
        match self.carry_out(&object, plan).await {
            // What was read has changed meanwhile: that change calls again.
            Err(error) if code(&error) == Some(409) => Ok(Next::Wait),
            Err(error) if is_namespace_terminating(&error) => Ok(Next::Wait),
            Err(source) => {
                let text = format!("Error updating Endpoint Slices for Service {key}: {}", message(&source));
                self.recorder.warning(&reference(&SERVICE, &object), "FailedToUpdateEndpointSlices", &text);
                Err(Error::Api { step: "writing EndpointSlices", source })
            }
            Ok(()) => Ok(Next::Wait),
        }
    }

    /// Empty for a node without a zone; `None` for one that isn't there.
    fn zone(&self, node: &str) -> Option<String> {
        let node = self.nodes.object(&ObjectKey::new("", node))?;
        Some(node.meta.labels.get(ZONE).cloned().unwrap_or_default())
    }

    async fn carry_out(&self, service: &Object, plan: Plan) -> Result<(), kube::Error> {
        let slices = Collection::new(&self.client, &ENDPOINT_SLICE, &service.key.namespace);
        let mut revision = 0;
        if service.meta.deletion_timestamp.is_none() {
            for slice in plan.create {
                revision = slices.create(json(&slice)?.to_string().into()).await?.revision;
            }
        }
        for slice in plan.update {
            let name = slice.metadata.name.clone().unwrap_or_default();
            revision = slices.replace(&name, &json(&slice)?).await?.revision;
        }
        for slice in plan.delete {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            match slices.delete(&of(&slice.metadata.name), &of(&slice.metadata.uid)).await {
                Err(error) if matches!(code(&error), Some(404 | 409)) => {}
                other => other.map(|_| ())?,
            }
        }
        // The next step is decided by what this one wrote.
        self.slices.reached(revision).await;
        Ok(())
    }
}

fn json(slice: &EndpointSlice) -> Result<Value, kube::Error> {
    serde_json::to_value(slice).map_err(kube::Error::SerdeError)
}
