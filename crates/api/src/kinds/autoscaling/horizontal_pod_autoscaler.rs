//! A workload's size by its load.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, UNKNOWN, UNSET};
use crate::kinds::check::required;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, field, fill, fill_zero, int, list, some, sub, text};

pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("HorizontalPodAutoscaler")],
    columns: COLUMNS,
    row,
    default,
    validate,
    new_status: || Some(json!({ "desiredReplicas": 0 })),
    schema: schema_of::<HorizontalPodAutoscaler>,
    ..Kind::NONE
};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "What it scales."),
    Column::text("Targets", "What each measure is, and what it should be."),
    Column::text("MinPods", "The fewest pods."),
    Column::text("MaxPods", "The most pods."),
    Column::text("Replicas", "How many pods there are."),
    Column::AGE,
];

pub fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let target = |key: &str| text(object, &format!("/spec/scaleTargetRef/{key}"));
    vec![
        cells::name(object),
        format!("{}/{}", target("kind"), target("name")).into(),
        targets(object).into(),
        int(object, "/spec/minReplicas").map_or(UNSET.to_owned(), |least| least.to_string()).into(),
        count(object, "/spec/maxReplicas").into(),
        count(object, "/status/currentReplicas").into(),
        age_of(object, now),
    ]
}

/// At most two measures, each as `name: is/should`.
fn targets(object: &Value) -> String {
    let metrics = list(object, "/spec/metrics");
    if metrics.is_empty() {
        return NONE.into();
    }
    let mut shown: Vec<String> = Vec::new();
    for (i, metric) in metrics.iter().enumerate().take(2) {
        let (field, prefix) = match text(metric, "/type") {
            "Resource" => ("resource", format!("{}: ", text(metric, "/resource/name"))),
            "ContainerResource" => ("containerResource", format!("{}: ", text(metric, "/containerResource/name"))),
            "Pods" => ("pods", String::new()),
            "Object" => ("object", String::new()),
            "External" => ("external", String::new()),
            _ => {
                shown.push("<unknown type>".into());
                continue;
            }
        };
        let target = metric.pointer(&format!("/{field}/target")).unwrap_or(&Value::Null);
        let current = object.pointer(&format!("/status/currentMetrics/{i}/{field}/current")).unwrap_or(&Value::Null);
        let (wanted, is) = match int(target, "/averageUtilization") {
            Some(percent) => {
                (format!("{percent}%"), int(current, "/averageUtilization").map(|percent| format!("{percent}%")))
            }
            None => {
                let either = |held: &Value| {
                    ["averageValue", "value"].iter().find_map(|key| held.get(key)?.as_str().map(str::to_owned))
                };
                (either(target).unwrap_or_default(), either(current))
            }
        };
        shown.push(format!("{prefix}{}/{wanted}", is.unwrap_or(UNKNOWN.into())));
    }
    let list = shown.join(", ");
    match metrics.len().saturating_sub(2) {
        0 => list,
        more => format!("{list} + {more} more..."),
    }
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "minReplicas", 1);
    fill_zero(
        spec,
        "metrics",
        json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]),
    );
    let Some(behavior) = field(spec, "behavior") else { return };
    if let Some(up) = sub(behavior, "scaleUp") {
        fill(up, "selectPolicy", "Max");
        fill(up, "stabilizationWindowSeconds", 0);
        fill_zero(
            up,
            "policies",
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
    }
    if let Some(down) = sub(behavior, "scaleDown") {
        fill(down, "selectPolicy", "Max");
        fill_zero(down, "policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (least, most) = (int(spec, "/minReplicas").unwrap_or(1), count(spec, "/maxReplicas"));
    if least < 1 {
        errors.push(FieldError::invalid("spec.minReplicas", &least.into(), "must be greater than or equal to 1"));
    }
    if most < 1 {
        errors.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    }
    if most < least {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            &most.into(),
            "must be greater than or equal to `minReplicas`",
        ));
    }
    required(&mut errors, "spec.scaleTargetRef.kind", text(spec, "/scaleTargetRef/kind"));
    required(&mut errors, "spec.scaleTargetRef.name", text(spec, "/scaleTargetRef/name"));
    let target = text(spec, "/scaleTargetRef/apiVersion");
    if !target.contains('/') && text(spec, "/scaleTargetRef/kind") != "ReplicationController" {
        let detail = "apiVersion must specify API group";
        errors.push(FieldError::invalid("spec.scaleTargetRef.apiVersion", &target.into(), detail));
    }
    for (i, metric) in list(spec, "/metrics").iter().enumerate() {
        let path = format!("spec.metrics[{i}]");
        let r#type = text(metric, "/type");
        let field = match r#type {
            "" => {
                errors.push(FieldError::required(format!("{path}.type"), "must specify a metric source type"));
                continue;
            }
            "ContainerResource" => "containerResource",
            "External" => "external",
            "Object" => "object",
            "Pods" => "pods",
            "Resource" => "resource",
            other => {
                errors.push(FieldError::not_supported(
                    format!("{path}.type"),
                    &other.into(),
                    &["ContainerResource", "External", "Object", "Pods", "Resource"],
                ));
                continue;
            }
        };
        if some(metric, &format!("/{field}")).is_none() {
            errors.push(FieldError::required(
                format!("{path}.{field}"),
                "must populate information for the given metric source",
            ));
        }
    }
    errors
}
