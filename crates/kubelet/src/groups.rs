//! The control groups above those of pods, as upstream's container manager keeps them: what pods may use in all, and
//! what burstable pods as a whole get of the processor beside guaranteed and best-effort ones.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::kubelet::Context;
use crate::qos::Qos;
use crate::resources::{self, shares};
use crate::runtime::Limits;

/// Processor that the node's burstable pods ask for, in thousandths.
pub fn burstable_milli<'a>(pods: impl Iterator<Item = &'a Pod>) -> i64 {
    let specs = pods.filter_map(|pod| pod.spec.as_ref()).filter(|spec| Qos::of(spec) == Qos::Burstable);
    let requests = specs.map(resources::pod_requests);
    requests.filter_map(|requests| requests.get("cpu").copied()).sum()
}

/// Makes the groups, and keeps the burstable one as `asked` says, for ever.
pub async fn run(context: Arc<Context>, mut asked: watch::Receiver<i64>) {
    let capacity = &context.capacity;
    let all = Limits {
        cpu_shares: shares(capacity.cpu_milli),
        memory_bytes: capacity.allocatable_memory_bytes().unsigned_abs(),
        ..Limits::default()
    };
    set(&context, "kubepods", all).await;
    set(&context, "kubepods/besteffort", Limits { cpu_shares: shares(0), ..Limits::default() }).await;
    loop {
        let milli = *asked.borrow_and_update();
        set(&context, "kubepods/burstable", Limits { cpu_shares: shares(milli), ..Limits::default() }).await;
        if asked.changed().await.is_err() {
            return;
        }
    }
}

/// A group that can't be limited limits nobody; the pods in it run.
async fn set(context: &Context, group: &str, limits: Limits) {
    if let Err(error) = context.runtime.limit_group(group, limits).await {
        tracing::warn!(group, %error, "control group not set up");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn burstable_pods_share_what_they_ask_for() {
        let pod = |resources: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})).unwrap()
        };
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let pods = [
            pod(json!({})),
            pod(json!({"requests": {"cpu": "100m"}})),
            pod(json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "2"}})),
            pod(json!({"requests": both, "limits": both})),
        ];
        assert_eq!(burstable_milli(pods.iter()), 350);
    }
}
