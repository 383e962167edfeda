//! Pods kept running and rolled over to new versions.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells;
use crate::kinds::check::{
    IntOrPercent, at_most_all, int_or_percent, label_selector, not_negative, selects_all, unchanged,
};
use crate::kinds::core::pod;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{count, fill, some, sub, text};

pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::SCALE, subresources::status("Deployment")],
    columns: COLUMNS,
    row,
    default,
    validate,
    schema: schema_of::<Deployment>,
    has_generation: true,
    acted_on: true,
    ..Kind::NONE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "How many pods are ready, of how many that are wanted."),
    Column::text("Up-to-date", "How many pods have the newest template."),
    Column::text("Available", "How many pods have been ready for long enough."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, "/spec/template/spec/containers");
    vec![
        cells::name(object),
        format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas")).into(),
        count(object, "/status/updatedReplicas").into(),
        count(object, "/status/availableReplicas").into(),
        age_of(object, now),
        names,
        images,
        cells::selector(object, "/spec/selector"),
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = sub(spec, "strategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = sub(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    pod::default_template(spec);
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    not_negative(&mut errors, "spec", spec, "replicas");
    match some(spec, "/selector") {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            label_selector(&mut errors, "spec.selector", selector);
            if selects_all(selector) {
                errors.push(FieldError::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
            }
        }
    }
    // Upstream's words name the ReplicaSet here, since it's that which runs the pods.
    pod::template_for_replicas(&mut errors, "spec", spec, "ReplicaSet");
    strategy(&mut errors, spec.get("strategy").unwrap_or(&Value::Null));
    not_negative(&mut errors, "spec", spec, "minReadySeconds");
    not_negative(&mut errors, "spec", spec, "revisionHistoryLimit");
    not_negative(&mut errors, "spec", spec, "progressDeadlineSeconds");
    if let Some(deadline) = some(spec, "/progressDeadlineSeconds")
        && count(spec, "/progressDeadlineSeconds") <= count(spec, "/minReadySeconds")
    {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
    if let Some(old) = old {
        unchanged(&mut errors, "spec.selector", object, old, "/spec/selector");
    }
    errors
}

fn strategy(errors: &mut FieldErrors, strategy: &Value) {
    let rolling = some(strategy, "/rollingUpdate");
    match (text(strategy, "/type"), rolling) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        ("RollingUpdate", None) => errors
            .push(FieldError::required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")),
        ("RollingUpdate", Some(rolling)) => {
            let path = "spec.strategy.rollingUpdate.maxUnavailable";
            let unavailable = rolling.get("maxUnavailable").unwrap_or(&Value::Null);
            let surge = rolling.get("maxSurge").unwrap_or(&Value::Null);
            int_or_percent(errors, path, unavailable);
            int_or_percent(errors, "spec.strategy.rollingUpdate.maxSurge", surge);
            let zero = |value| IntOrPercent::of(value).is_some_and(|amount| amount.is_zero());
            if zero(unavailable) && zero(surge) {
                errors.push(FieldError::invalid(path, unavailable, "may not be 0 when `maxSurge` is 0"));
            }
            at_most_all(errors, path, unavailable);
        }
        _ => errors.push(FieldError::not_supported("spec.strategy", strategy, &["Recreate", "RollingUpdate"])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "a", "image": "nginx"}]},
            },
        }});
        default(&mut object);
        object
    }

    fn wrong(object: &Value, old: Option<&Value>) -> Vec<String> {
        validate(object, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_upstreams() {
        let object = deployment();
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
        assert_eq!(object["spec"]["progressDeadlineSeconds"], 600);
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
        assert_eq!(object["spec"]["strategy"], strategy);
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(object["spec"]["template"]["spec"].get("enableServiceLinks"), None);
        assert_eq!(wrong(&object, Some(&object)), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        let cases: [(&str, Value, &[&str]); 8] = [
            ("/spec/replicas", json!(-1), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
            (
                "/spec/selector",
                Value::Null,
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "/spec/template/metadata/labels",
                json!({"app": "b"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "/spec/strategy/rollingUpdate",
                json!({"maxUnavailable": 0, "maxSurge": "0%"}),
                &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
            ),
            (
                "/spec/strategy/type",
                json!("Recreate"),
                &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
            ),
            (
                "/spec/progressDeadlineSeconds",
                json!(0),
                &["spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds"],
            ),
        ];
        for (pointer, value, expected) in cases {
            let mut object = deployment();
            *object.pointer_mut(pointer).expect(pointer) = value.clone();
            assert_eq!(wrong(&object, None), expected, "{pointer} {value}");
        }
    }

    #[test]
    fn a_template_on_the_hosts_network_leaves_host_ports_open() {
        let mut object = deployment();
        object["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        object["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
        default(&mut object);
        assert_eq!(wrong(&object, None), Vec::<String>::new());
        object["spec"]["template"]["spec"]["containers"][0]["ports"][0]["hostPort"] = 81.into();
        assert_eq!(
            wrong(&object, None),
            [
                "spec.template.spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
            ]
        );
    }

    #[test]
    fn the_selector_stays() {
        let old = deployment();
        let mut object = old.clone();
        object["spec"]["selector"]["matchLabels"]["app"] = "b".into();
        object["spec"]["template"]["metadata"]["labels"]["app"] = "b".into();
        assert_eq!(
            wrong(&object, Some(&old)),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
        );
    }
}
