//! Writes a pod's status to the API server: the newest only, retried until it is there or the pod is gone.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::kubelet::Context;
use crate::pod;
use crate::task::AbortOnDrop;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// One pod's writer.
pub struct StatusWriter {
    wanted: watch::Sender<Option<Arc<PodStatus>>>,
    written: watch::Receiver<Option<Arc<PodStatus>>>,
    _task: AbortOnDrop<()>,
}

impl StatusWriter {
    pub fn new(context: Arc<Context>, pod: &Pod) -> Self {
        let (wanted, asked) = watch::channel(None);
        let (done, written) = watch::channel(None);
        let api = Api::namespaced(context.client.clone(), pod::namespace(pod));
        let writer = Writer {
            api,
            name: pod::name(pod).to_owned(),
            uid: pod::uid(pod).to_owned(),
            base: to_map(&pod.status.clone().unwrap_or_default()),
        };
        Self { wanted, written, _task: AbortOnDrop(tokio::spawn(writer.run(asked, done))) }
    }

    /// Wants `status` written; a former one that isn't yet is skipped.
    pub fn write(&self, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            if wanted.as_deref() == Some(&status) {
                return false;
            }
            *wanted = Some(Arc::new(status));
            true
        });
    }

    /// Returns once the last wanted status is written or the pod is gone.
    pub async fn flushed(&mut self) {
        let wanted = self.wanted.borrow().clone();
        // The writer's end means that the pod is gone: nothing is left to wait for.
        let _ = self.written.wait_for(|written| *written == wanted).await;
    }
}

struct Writer {
    api: Api<Pod>,
    name: String,
    uid: String,
    /// The status as the API server has it, as far as known here.
    base: Map<String, Value>,
}

impl Writer {
    async fn run(
        mut self,
        mut asked: watch::Receiver<Option<Arc<PodStatus>>>,
        done: watch::Sender<Option<Arc<PodStatus>>>,
    ) {
        while asked.changed().await.is_ok() {
            let mut retry = FIRST_RETRY;
            loop {
                let Some(status) = asked.borrow_and_update().clone() else { break };
                match self.write(&status).await {
                    Ok(()) => {
                        done.send_replace(Some(status));
                        break;
                    }
                    Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return,
                    Err(error) => {
                        tracing::warn!(pod = self.name, %error, "status not written, will retry");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(LONGEST_RETRY);
                    }
                }
            }
        }
    }

    async fn write(&mut self, status: &PodStatus) -> Result<(), kube::Error> {
        let new = to_map(status);
        if new == self.base {
            return Ok(());
        }
        let patch = json!({ "metadata": { "uid": self.uid }, "status": difference(&self.base, &new) });
        self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        self.base = new;
        Ok(())
    }
}

fn to_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A strategic merge patch from `old` to `new`. Conditions merge by type, so that those of others stay; addresses
/// merge too, so that a pod's former ones have to be replaced outright.
fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Value {
    let mut patch = Map::new();
    for (key, value) in new {
        if old.get(key) == Some(value) {
            continue;
        }
        let value = match (key.as_str(), value) {
            ("podIPs" | "hostIPs", Value::Array(items)) if old.contains_key(key) => {
                let mut items = items.clone();
                items.push(json!({ "$patch": "replace" }));
                Value::Array(items)
            }
            _ => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    // A merged condition keeps what the patch doesn't name: a reason that no longer holds has to be taken out.
    if let Some(Value::Array(conditions)) = patch.get_mut("conditions") {
        for condition in conditions {
            if let Value::Object(condition) = condition {
                for key in ["reason", "message"] {
                    condition.entry(key).or_insert(Value::Null);
                }
            }
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let cases = [
            (json!({}), json!({"phase": "Pending"}), json!({"phase": "Pending"})),
            (
                json!({"phase": "Pending", "reason": "x"}),
                json!({"phase": "Running"}),
                json!({"phase": "Running", "reason": null}),
            ),
            (json!({"phase": "Running"}), json!({"phase": "Running"}), json!({})),
            (
                json!({"podIPs": [{"ip": "1.1.1.1"}]}),
                json!({"podIPs": [{"ip": "2.2.2.2"}]}),
                json!({"podIPs": [{"ip": "2.2.2.2"}, {"$patch": "replace"}]}),
            ),
            (
                json!({}),
                json!({"conditions": [{"type": "Ready", "status": "True"}]}),
                json!({"conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}),
            ),
        ];
        for (old, new, expected) in cases {
            assert_eq!(difference(old.as_object().unwrap(), new.as_object().unwrap()), expected);
        }
    }
}
