//! A Deployment and its ReplicaSets as the controller reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::Value;
use tug_api::{Object, Selector};

/// With what the controller is about to say of it.
#[derive(Clone)]
pub(super) struct Deployment {
    pub object: Arc<Object>,
    pub spec: Spec,
    pub selector: Selector,
    /// As stored; what it becomes is worked out apart.
    pub status: DeploymentStatus,
    /// As they should be.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub replicas: i32,
    #[serde(default)]
    pub min_ready_seconds: i32,
    /// Upstream takes the largest number for none, too.
    pub progress_deadline_seconds: Option<i32>,
    pub revision_history_limit: Option<i32>,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub strategy: Strategy,
    pub selector: LabelSelector,
    #[serde(default)]
    pub template: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Strategy {
    #[serde(rename = "type")]
    pub kind: String,
    pub rolling_update: RollingUpdate,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RollingUpdate {
    pub max_surge: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
}

/// A ReplicaSet.
#[derive(Clone)]
pub(super) struct Set {
    pub object: Arc<Object>,
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub template: Value,
    pub status: ReplicaSetStatus,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    #[error("its selector: {0}")]
    Selector(#[from] tug_api::selector::SelectorError),
}

impl Deployment {
    pub fn read(object: Arc<Object>) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Envelope {
            spec: Spec,
            #[serde(default)]
            status: DeploymentStatus,
        }
        let Envelope { spec, status } = serde_json::from_slice(object.json())?;
        let selector = Selector::from_label_selector(&spec.selector)?;
        let annotations = object.meta.annotations.clone();
        Ok(Self { object, spec, selector, status, annotations })
    }

    pub fn name(&self) -> &str {
        &self.object.key.name
    }

    pub fn namespace(&self) -> &str {
        &self.object.key.namespace
    }

    pub fn is_rolling(&self) -> bool {
        self.spec.strategy.kind != "Recreate"
    }

    /// The time within which a rollout must get further.
    pub fn progress_deadline(&self) -> Option<i32> {
        self.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
    }

    /// How many of its pods may be surplus and how many missing at a time (upstream's `ResolveFenceposts`): shares of the
    /// replicas are rounded up for the former and down for the latter, and both can't be nothing.
    pub fn surge_and_unavailable(&self) -> (i32, i32) {
        if !self.is_rolling() || self.spec.replicas == 0 {
            return (0, 0);
        }
        let RollingUpdate { max_surge, max_unavailable } = &self.spec.strategy.rolling_update;
        let replicas = self.spec.replicas;
        let surge = number(max_surge.as_ref(), |percent| ceiling_share(percent, replicas));
        let unavailable = number(max_unavailable.as_ref(), |percent| floor_share(percent, replicas));
        match (surge, unavailable) {
            (0, 0) => (0, 1),
            _ => (surge, unavailable.min(replicas)),
        }
    }
}

fn number(value: Option<&IntOrString>, share: impl Fn(i64) -> i64) -> i32 {
    let number = match value {
        None => 0,
        Some(IntOrString::Int(number)) => i64::from(*number),
        // Checked by validation; what isn't a percentage counts as nothing.
        Some(IntOrString::String(text)) => {
            text.strip_suffix('%').and_then(|percent| percent.parse().ok()).map_or(0, share)
        }
    };
    i32::try_from(number.max(0)).unwrap_or(i32::MAX)
}

fn ceiling_share(percent: i64, of: i32) -> i64 {
    (percent.saturating_mul(i64::from(of)).saturating_add(99)) / 100
}

fn floor_share(percent: i64, of: i32) -> i64 {
    percent.saturating_mul(i64::from(of)) / 100
}

impl Set {
    pub fn read(object: Arc<Object>) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Envelope {
            spec: SetSpec,
            #[serde(default)]
            status: ReplicaSetStatus,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SetSpec {
            #[serde(default)]
            replicas: i32,
            #[serde(default)]
            min_ready_seconds: i32,
            #[serde(default)]
            template: Value,
        }
        let Envelope { spec, status } = serde_json::from_slice(object.json())?;
        let SetSpec { replicas, min_ready_seconds, template } = spec;
        Ok(Self { object, replicas, min_ready_seconds, template, status })
    }

    pub fn name(&self) -> &str {
        &self.object.key.name
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.meta.annotations.get(name).map(String::as_str)
    }

    pub fn available(&self) -> i32 {
        self.status.available_replicas.unwrap_or(0)
    }

    /// Older ones first; of the same second by name.
    pub fn age(&self) -> (Option<&str>, &str) {
        (self.object.meta.creation_timestamp.as_deref(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::deployment;

    /// Upstream's `TestResolveFenceposts` and `TestMaxUnavailable`.
    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let cases = [
            (json!("0%"), json!("0%"), 0, (0, 0)),
            (json!("39%"), json!("39%"), 10, (4, 3)),
            (json!(0), json!("0%"), 10, (0, 1)),
            (json!("25%"), json!("25%"), 1, (1, 0)),
            (json!("25%"), json!("25%"), 10, (3, 2)),
            (json!("10%"), json!("90%"), 10, (1, 9)),
            (json!(2), json!(5), 10, (2, 5)),
            (json!(0), json!(5), 2, (0, 2)),
            (json!(0), json!("1%"), 1, (0, 1)),
            (json!("100%"), json!(0), 1000, (1000, 0)),
        ];
        for (surge, unavailable, replicas, expected) in cases {
            let fields = json!({ "replicas": replicas, "strategy": {
                "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable },
            } });
            assert_eq!(deployment(&fields).surge_and_unavailable(), expected, "{fields}");
        }
        let recreate = json!({ "replicas": 5, "strategy": { "type": "Recreate" } });
        assert_eq!(deployment(&recreate).surge_and_unavailable(), (0, 0));
    }
}
