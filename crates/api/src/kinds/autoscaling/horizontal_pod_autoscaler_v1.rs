//! The autoscaler's first version, stored as the second: what it lacks travels in annotations.

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use super::HORIZONTAL_POD_AUTOSCALER;
use super::horizontal_pod_autoscaler::{COLUMNS, row};
use crate::kind::{Kind, StoredAs};
use crate::kinds::part::{schema_of, subresources};
use crate::kinds::walk::{put, sub};

pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Kind {
    version: "v1",
    schema: schema_of::<HorizontalPodAutoscaler>,
    subresources: &[subresources::status("HorizontalPodAutoscaler")],
    default,
    columns: COLUMNS,
    row: |object, now| row(&as_stored(object), now),
    validate: |object, old| (HORIZONTAL_POD_AUTOSCALER.validate)(&as_stored(object), old.map(as_stored).as_ref()),
    stored_as: Some(&StoredAs { kind: &HORIZONTAL_POD_AUTOSCALER, to_stored, from_stored }),
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    ..Kind::NONE
};

/// Upstream's annotations for what version 1 has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn default(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("minReplicas").or_insert(json!(1));
    }
}

fn as_stored(object: &Value) -> Value {
    let mut stored = object.clone();
    to_stored(&mut stored);
    stored
}

fn to_stored(object: &mut Value) {
    put(object, "apiVersion", "autoscaling/v2");
    let metrics = take_annotation(object, METRICS);
    let behavior = take_annotation(object, BEHAVIOR);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let mut list = match metrics {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": target});
        list.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !list.is_empty() {
        spec.insert("metrics".into(), list.into());
    }
    if let Some(behavior) = behavior {
        spec.insert("behavior".into(), behavior);
    }
}

fn from_stored(object: &mut Value) {
    put(object, "apiVersion", "autoscaling/v1");
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let mut others = Vec::new();
    if let Some(Value::Array(list)) = spec.remove("metrics") {
        for metric in list {
            let cpu = metric.pointer("/resource/name").is_some_and(|name| name == "cpu");
            match metric.pointer("/resource/target/averageUtilization") {
                Some(target) if cpu => {
                    spec.insert("targetCPUUtilizationPercentage".into(), target.clone());
                }
                _ => others.push(metric),
            }
        }
    }
    let behavior = spec.remove("behavior");
    if !others.is_empty() {
        put_annotation(object, METRICS, &Value::Array(others));
    }
    if let Some(behavior) = behavior {
        put_annotation(object, BEHAVIOR, &behavior);
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("conditions");
        status.entry("currentReplicas").or_insert(json!(0));
        if let Some(Value::Array(list)) = status.remove("currentMetrics") {
            let cpu = list.iter().find(|metric| metric.pointer("/resource/name").is_some_and(|name| name == "cpu"));
            if let Some(now) = cpu.and_then(|metric| metric.pointer("/resource/current/averageUtilization")) {
                status.insert("currentCPUUtilizationPercentage".into(), now.clone());
            }
        }
    }
}

fn take_annotation(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = object.pointer_mut("/metadata/annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    serde_json::from_str(text.as_str()?).ok()
}

fn put_annotation(object: &mut Value, name: &str, value: &Value) {
    if let Some(annotations) = sub(object, "metadata").and_then(|metadata| sub(metadata, "annotations")) {
        put(annotations, name, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_lacks_survives_it() {
        let stored = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"}, "spec": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue"}}},
            ],
            "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
        }});
        let mut object = stored.clone();
        from_stored(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        to_stored(&mut object);
        assert_eq!(object["spec"], stored["spec"]);
        assert_eq!(object["apiVersion"], "autoscaling/v2");
    }
}
