//! Deployments and ReplicaSets for tests.

use serde_json::{Value, json};

use super::view::{Deployment, Set};
use crate::testing::{object, with};

/// With these fields in its `spec`; `status` and `metadata` of the fields go where they belong.
pub(super) fn deployment(fields: &Value) -> Deployment {
    let mut spec = json!({
        "replicas": 1,
        "selector": { "matchLabels": { "app": "d" } },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } },
        "template": { "metadata": { "labels": { "app": "d" } }, "spec": { "containers": [{ "name": "c" }] } },
    });
    let mut fields = fields.clone();
    let mut take = |name: &str| fields.as_object_mut().and_then(|fields| fields.remove(name)).unwrap_or(json!({}));
    let (status, metadata) = (take("status"), take("metadata"));
    spec = with(&spec, &fields);
    let whole = json!({ "metadata": metadata, "spec": spec, "status": status });
    Deployment::read(object("d", &whole)).expect("a Deployment")
}

pub(super) fn set(name: &str, fields: &Value) -> Set {
    Set::read(object(name, &with(&json!({ "spec": {}, "status": { "replicas": 0 } }), fields))).expect("a ReplicaSet")
}
