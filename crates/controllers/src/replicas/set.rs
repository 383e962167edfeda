//! A ReplicaSet or ReplicationController as its controller reads it, and what its status should say.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use tug_api::{Kind, Object, Selector};

use crate::pod::Pod;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) struct Set {
    pub name: String,
    pub generation: i64,
    pub replicas: usize,
    pub min_ready: Duration,
    pub selector: Selector,
    template: Template,
    pub status: ReplicaSetStatus,
    /// ReplicationControllers don't say how many of their pods are terminating.
    tells_terminating: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMeta,
    spec: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    finalizers: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    #[error("its selector: {0}")]
    Selector(#[from] tug_api::selector::SelectorError),
}

impl Set {
    pub fn read(kind: &Kind, object: &Object) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Envelope {
            spec: Spec,
            #[serde(default)]
            status: ReplicaSetStatus,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(default)]
            replicas: i32,
            #[serde(default)]
            min_ready_seconds: i32,
            #[serde(default)]
            selector: Value,
            #[serde(default)]
            template: Template,
        }
        let Envelope { spec, status } = serde_json::from_slice(object.json())?;
        let is_replica_set = kind.kind == "ReplicaSet";
        let selector = if is_replica_set {
            Selector::from_label_selector(&serde_json::from_value::<LabelSelector>(spec.selector)?)?
        } else {
            Selector::from_labels(&serde_json::from_value(spec.selector)?)
        };
        Ok(Self {
            name: object.key.name.clone(),
            generation: object.meta.generation,
            replicas: usize::try_from(spec.replicas).unwrap_or(0),
            min_ready: Duration::from_secs(u64::try_from(spec.min_ready_seconds).unwrap_or(0)),
            selector,
            template: spec.template,
            status,
            tells_terminating: is_replica_set,
        })
    }

    /// A pod of the template; `None` where nothing would tell it from others.
    pub fn pod(&self, owner: &OwnerReference) -> Option<Value> {
        let TemplateMeta { labels, annotations, finalizers } = &self.template.metadata;
        if labels.is_empty() {
            return None;
        }
        let mut metadata = json!({
            "generateName": format!("{}-", self.name),
            "labels": labels,
            "ownerReferences": [owner],
        });
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        if !finalizers.is_empty() {
            metadata["finalizers"] = json!(finalizers);
        }
        Some(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.template.spec }))
    }

    /// `pods` are those of the set that are active; `failure` is why others couldn't be made or deleted.
    pub fn next_status(
        &self,
        pods: &[Pod],
        terminating: usize,
        failure: Option<&str>,
        now: Timestamp,
    ) -> ReplicaSetStatus {
        let labels = &self.template.metadata.labels;
        let labeled = |pod: &&Pod| labels.iter().all(|(name, value)| pod.object.meta.labels.get(name) == Some(value));
        let available = |pod: &&Pod| pod.available_in(self.min_ready, now).is_some_and(|wait| wait.is_zero());
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        // Upstream leaves zeros out.
        let counted = |count: usize| Some(number(count)).filter(|number| *number > 0);
        ReplicaSetStatus {
            replicas: number(pods.len()),
            fully_labeled_replicas: counted(pods.iter().filter(labeled).count()),
            ready_replicas: counted(pods.iter().filter(|pod| pod.is_ready()).count()),
            available_replicas: counted(pods.iter().filter(available).count()),
            terminating_replicas: self.tells_terminating.then(|| number(terminating)),
            observed_generation: Some(self.generation),
            conditions: self.next_conditions(pods.len(), failure, now),
        }
    }

    /// A failure that is known already keeps the words and the time of its first occurrence.
    fn next_conditions(&self, pods: usize, failure: Option<&str>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
        let mut conditions = self.status.conditions.clone().unwrap_or_default();
        let is_known = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
        match failure {
            None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
            Some(_) if is_known => {}
            Some(message) => conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.into(),
                status: "True".into(),
                reason: Some(if pods < self.replicas { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(message.into()),
                last_transition_time: Some(Time(seconds(now))),
            }),
        }
        Some(conditions).filter(|conditions| !conditions.is_empty())
    }
}

/// Times in objects have whole seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use tug_api::kinds::{apps, core};

    use super::*;
    use crate::testing::{object, pod};

    fn set(kind: &Kind, status: &Value) -> Set {
        let labels = json!({ "app": "a", "tier": "t" });
        let selector =
            if kind.kind == "ReplicaSet" { json!({ "matchLabels": { "app": "a" } }) } else { json!({ "app": "a" }) };
        let object = object(
            "s",
            &json!({
                "metadata": { "generation": 7 },
                "spec": {
                    "replicas": 3, "minReadySeconds": 10, "selector": selector,
                    "template": {
                        "metadata": { "labels": labels, "annotations": { "x": "y" }, "finalizers": ["example.com/f"] },
                        "spec": { "containers": [{ "name": "c", "futureField": 1 }] },
                    },
                },
                "status": status,
            }),
        );
        Set::read(kind, &object).expect("a set")
    }

    fn now() -> Timestamp {
        "2030-01-01T00:01:00Z".parse().expect("a time")
    }

    fn ready(name: &str, labels: Value, since: &str) -> Pod {
        let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": since });
        pod(name, &json!({ "metadata": { "labels": labels }, "status": { "conditions": [condition] } }))
    }

    #[test]
    fn a_pod_is_the_template_with_an_owner() {
        let pod = set(&apps::REPLICA_SET, &json!({ "replicas": 0 }))
            .pod(&OwnerReference { uid: "u".into(), ..OwnerReference::default() })
            .expect("a pod");
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "generateName": "s-", "labels": { "app": "a", "tier": "t" }, "annotations": { "x": "y" },
                "finalizers": ["example.com/f"], "ownerReferences": [{ "apiVersion": "", "kind": "", "name": "", "uid": "u" }],
            },
            "spec": { "containers": [{ "name": "c", "futureField": 1 }] },
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn a_status_counts_pods_by_what_they_are() {
        let whole = json!({ "app": "a", "tier": "t" });
        let pods = [
            ready("old", whole.clone(), "2030-01-01T00:00:50Z"),
            ready("new", whole.clone(), "2030-01-01T00:00:51Z"),
            ready("partly", json!({ "app": "a" }), "2030-01-01T00:00:00Z"),
            pod("starting", &json!({ "metadata": { "labels": whole } })),
        ];
        for (kind, terminating) in [(&apps::REPLICA_SET, json!(2)), (&core::REPLICATION_CONTROLLER, Value::Null)] {
            let status = set(kind, &json!({ "replicas": 0 })).next_status(&pods, 2, None, now());
            let mut expected = json!({
                "replicas": 4, "fullyLabeledReplicas": 3, "readyReplicas": 3, "availableReplicas": 2,
                "observedGeneration": 7,
            });
            if !terminating.is_null() {
                expected["terminatingReplicas"] = terminating;
            }
            assert_eq!(serde_json::to_value(status).expect("JSON"), expected, "{}", kind.kind);
        }
    }

    /// Upstream's `calculateStatus`.
    #[test]
    fn a_failure_is_told_once_and_forgotten_when_it_is_over() {
        let condition = |reason: &str, message: &str, at: &str| json!([{ "type": "ReplicaFailure", "status": "True", "reason": reason, "message": message, "lastTransitionTime": at }]);
        let one = || vec![pod("a", &json!({}))];
        let four = || (0..4).map(|n| pod(&n.to_string(), &json!({}))).collect::<Vec<_>>();
        let known = condition("FailedCreate", "before", "2029-01-01T00:00:00Z");
        let now_text = "2030-01-01T00:01:00Z";
        let cases = [
            ("too few", Value::Null, one(), Some("quota"), condition("FailedCreate", "quota", now_text)),
            ("too many", Value::Null, four(), Some("no"), condition("FailedDelete", "no", now_text)),
            ("known", known.clone(), one(), Some("quota"), known.clone()),
            ("over", known, one(), None, Value::Null),
        ];
        for (case, before, pods, failure, after) in cases {
            let set = set(&apps::REPLICA_SET, &json!({ "replicas": 1, "conditions": before }));
            let status = serde_json::to_value(set.next_status(&pods, 0, failure, now())).expect("JSON");
            assert_eq!(status["conditions"], after, "{case}");
        }
    }
}
