//! The node authorizer: a kubelet may do what upstream's `system:node` role lists, and read only those Secrets, ConfigMaps
//! and claims that a pod bound to its node names.

use std::sync::LazyLock;

use serde_json::Value;
use tug_api::kinds::core;
use tug_api::{FieldSelector, ObjectKey};

use super::{Attributes, Decision, Rule, policy};
use crate::objects::Objects;

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(policy::node_rules);

/// Whether the kubelet of `node` may do it.
pub(super) fn authorize(objects: &dyn Objects, node: &str, request: &Attributes<'_>) -> Decision {
    if !RULES.iter().any(|rule| rule.allows(request)) {
        return Decision::deny("");
    }
    if !request.is_resource {
        return Decision::allow("");
    }
    match (request.group, request.resource) {
        ("", "secrets") => referenced(objects, node, request, "Secret", names_secret),
        ("", "configmaps") => referenced(objects, node, request, "ConfigMap", names_config_map),
        ("", "persistentvolumeclaims") => referenced(objects, node, request, "PersistentVolumeClaim", names_claim),
        ("", "serviceaccounts") if request.subresource == "token" => {
            referenced(objects, node, request, "ServiceAccount", |pod, name| pod["spec"]["serviceAccountName"] == *name)
        }
        ("", "pods") if request.subresource.is_empty() => pods(objects, node, request),
        ("", "nodes") if matches!(request.verb, "get" | "list" | "watch") && request.name != node => {
            let wanted = if request.name.is_empty() { "all nodes".into() } else { format!("'{}'", request.name) };
            Decision::deny(format!("node '{node}' cannot read {wanted}, only its own Node object"))
        }
        ("coordination.k8s.io", "leases") if request.namespace != "kube-node-lease" => {
            Decision::deny(format!("can only access leases in the {:?} system namespace", "kube-node-lease"))
        }
        ("coordination.k8s.io", "leases") if request.verb != "create" && request.name != node => {
            Decision::deny("can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes") if request.verb != "create" && request.name != node => {
            Decision::deny("can only access CSINode with the same name as the requesting node")
        }
        _ => Decision::allow(""),
    }
}

/// A kubelet reads the pods that are bound to it. Which it makes and ends is admission's to say.
fn pods(objects: &dyn Objects, node: &str, request: &Attributes<'_>) -> Decision {
    let bound = |fields: &FieldSelector| {
        let mut requirements = fields.requirements().iter();
        requirements.any(|wanted| wanted.field == "spec.nodeName" && wanted.equal && wanted.value == node)
    };
    match request.verb {
        "list" | "watch" if FieldSelector::parse(request.fields).is_ok_and(|fields| bound(&fields)) => {
            Decision::allow("")
        }
        "list" | "watch" if request.name.is_empty() => {
            Decision::deny("can only list/watch pods with spec.nodeName field selector")
        }
        "get" | "list" | "watch" => {
            let pod = objects.get(&core::POD, &ObjectKey::new(request.namespace, request.name));
            if pod.is_some_and(|pod| pod.value().is_ok_and(|pod| pod["spec"]["nodeName"] == *node)) {
                return Decision::allow("");
            }
            Decision::deny(format!("no relationship found between node '{node}' and this object"))
        }
        _ => Decision::allow(""),
    }
}

/// Reads of one named object are fine when a pod of the node names it.
fn referenced(
    objects: &dyn Objects,
    node: &str,
    request: &Attributes<'_>,
    what: &str,
    names: fn(&Value, &str) -> bool,
) -> Decision {
    if request.name.is_empty() {
        return Decision::deny(format!("can only read namespaced object of this type: {what}"));
    }
    let found = objects.list(&core::POD, Some(request.namespace)).iter().any(|pod| {
        // Most pods are another node's or don't name it: looking into the bytes first saves decoding them.
        contains(pod.json(), node)
            && contains(pod.json(), request.name)
            && pod.value().is_ok_and(|pod| pod["spec"]["nodeName"] == *node && names(&pod, request.name))
    });
    if found {
        return Decision::allow("");
    }
    Decision::deny(format!("no relationship found between node '{node}' and this object"))
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    std::str::from_utf8(haystack).is_ok_and(|text| text.contains(needle))
}

fn names_secret(pod: &Value, name: &str) -> bool {
    let spec = &pod["spec"];
    let pulls = items(&spec["imagePullSecrets"]).any(|secret| secret["name"] == *name);
    pulls
        || environment(spec)
            .any(|(from, value)| from["secretRef"]["name"] == *name || value["secretKeyRef"]["name"] == *name)
        || items(&spec["volumes"]).any(|volume| {
            volume["secret"]["secretName"] == *name
                || items(&volume["projected"]["sources"]).any(|source| source["secret"]["name"] == *name)
                || ["csi", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"].iter().any(|driver| {
                    let driver = &volume[driver];
                    driver["nodePublishSecretRef"]["name"] == *name || driver["secretRef"]["name"] == *name
                })
        })
}

fn names_config_map(pod: &Value, name: &str) -> bool {
    let spec = &pod["spec"];
    environment(spec)
        .any(|(from, value)| from["configMapRef"]["name"] == *name || value["configMapKeyRef"]["name"] == *name)
        || items(&spec["volumes"]).any(|volume| {
            volume["configMap"]["name"] == *name
                || items(&volume["projected"]["sources"]).any(|source| source["configMap"]["name"] == *name)
        })
}

fn names_claim(pod: &Value, name: &str) -> bool {
    items(&pod["spec"]["volumes"]).any(|volume| {
        let generated = || {
            let (pod, volume) = (pod["metadata"]["name"].as_str(), volume["name"].as_str());
            format!("{}-{}", pod.unwrap_or_default(), volume.unwrap_or_default())
        };
        volume["persistentVolumeClaim"]["claimName"] == *name
            || (volume["ephemeral"].is_object() && generated() == name)
    })
}

/// `envFrom` entries and `env[].valueFrom` of all containers, as pairs of which one side is null.
fn environment(spec: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(&spec[list])).flat_map(
        |container| {
            let from = items(&container["envFrom"]).map(|from| (from, &Value::Null));
            from.chain(items(&container["env"]).map(|env| (&Value::Null, &env["valueFrom"])))
        },
    )
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
