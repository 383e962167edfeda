//! The node's heartbeat: a Lease renewed every ten seconds, by which the control plane knows that the node lives.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};

use crate::kubelet::Context;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const RENEWAL: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);

/// Renews for ever.
pub async fn run(context: Arc<Context>) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let mut retry = FIRST_RETRY;
    let mut held: Option<Lease> = None;
    loop {
        match renew(&api, &context, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                retry = FIRST_RETRY;
                tokio::time::sleep(RENEWAL).await;
            }
            Err(error) => {
                tracing::warn!(%error, "node lease not renewed, will retry");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

async fn renew(api: &Api<Lease>, context: &Context, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &context.config.node_name;
    let known = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let owners = match known.as_ref().and_then(|lease| lease.metadata.owner_references.clone()) {
        Some(owners) if !owners.is_empty() => Some(owners),
        _ => owner(context).await,
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    match known {
        Some(mut lease) => {
            lease.metadata.owner_references = owners;
            lease.spec = Some(spec);
            api.replace(name, &PostParams::default(), &lease).await
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.into()),
                owner_references: owners,
                ..ObjectMeta::default()
            };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    }
}

/// The node, with which its lease goes.
async fn owner(context: &Context) -> Option<Vec<OwnerReference>> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = nodes.get_opt(&context.config.node_name).await.ok()??;
    Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name?,
        uid: node.metadata.uid?,
        ..OwnerReference::default()
    }])
}
