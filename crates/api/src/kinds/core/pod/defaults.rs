//! What upstream fills in of a pod's spec (`pkg/apis/core/v1/defaults.go`), for pods and for templates of pods.

use serde_json::{Value, json};

use crate::kinds::walk::{drop_field, each, field, fill, fill_zero, flag, sub, text};

/// What applies to pods only: templates keep these open until the pod is made.
pub fn pod(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    for key in ["containers", "initContainers"] {
        for container in each(spec, key) {
            if let Some(resources) = field(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    if let Some(resources) = field(spec, "resources") {
        requests_from_limits(resources);
    }
    fill(spec, "enableServiceLinks", true);
    if flag(spec, "/hostNetwork") {
        for key in ["containers", "initContainers"] {
            for container in each(spec, key) {
                host_ports(container);
            }
        }
    }
    pod_spec(spec);
}

/// What applies to every pod spec, wherever it stands.
pub fn pod_spec(spec: &mut Value) {
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", json!({}));
    service_account(spec);
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for entry in each(spec, key) {
            container(entry);
        }
    }
    for entry in each(spec, "volumes") {
        volume(entry);
    }
}

/// A template's own: the object that holds it has it in `spec.template`.
pub fn template(spec: &mut Value) {
    let Some(template) = sub(spec, "template") else { return };
    fill(template, "metadata", json!({}));
    if let Some(spec) = sub(template, "spec") {
        pod_spec(spec);
    }
}

/// Upstream's wire form carries the account's name twice, under its old field's name too.
fn service_account(spec: &mut Value) {
    let name = match text(spec, "/serviceAccountName") {
        "" => text(spec, "/serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if name.is_empty() {
        drop_field(spec, "serviceAccount");
    } else {
        spec["serviceAccountName"] = name.clone().into();
        spec["serviceAccount"] = name.into();
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if limits.is_empty() {
        return;
    }
    let Some(requests) = sub(resources, "requests") else { return };
    for (name, limit) in limits {
        fill(requests, &name, limit);
    }
}

fn host_ports(container: &mut Value) {
    for port in each(container, "ports") {
        if let Some(number) = port.get("containerPort").cloned() {
            fill_zero(port, "hostPort", number);
        }
    }
}

fn container(container: &mut Value) {
    let pull = pull_policy(text(container, "/image"));
    fill(container, "imagePullPolicy", pull);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    for port in each(container, "ports") {
        fill(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(reference) = field(variable, "valueFrom").and_then(|from| field(from, "fieldRef")) {
            fill(reference, "apiVersion", "v1");
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(entry) = field(container, key) {
            probe(entry);
        }
    }
    if let Some(lifecycle) = field(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(get) = field(lifecycle, key).and_then(|hook| field(hook, "httpGet")) {
                http_get(get);
            }
        }
    }
}

fn probe(probe: &mut Value) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    if let Some(get) = field(probe, "httpGet") {
        http_get(get);
    }
    if let Some(grpc) = field(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    fill(get, "path", "/");
    fill(get, "scheme", "HTTP");
}

/// `Always` for what moves (the tag `latest`, spoken or not), else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    // A digest pins the image whatever its tag; a colon before the last slash is a registry's port.
    let latest = !image.contains('@')
        && match image.rsplit('/').next().and_then(|last| last.split_once(':')) {
            Some((_, tag)) => tag == "latest",
            None => true,
        };
    if latest { "Always" } else { "IfNotPresent" }
}

fn volume(volume: &mut Value) {
    let Some(fields) = volume.as_object() else { return };
    if !fields.iter().any(|(key, value)| key != "name" && !value.is_null()) {
        volume["emptyDir"] = json!({});
        return;
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = field(volume, key) {
            fill(source, "defaultMode", 0o644);
        }
    }
    if let Some(source) = field(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(projected) = field(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = field(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = field(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(path) = field(volume, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(image) = field(volume, "image") {
        let pull = pull_policy(text(image, "/reference"));
        fill(image, "pullPolicy", pull);
    }
    if let Some(spec) = field(volume, "ephemeral")
        .and_then(|source| field(source, "volumeClaimTemplate"))
        .and_then(|template| field(template, "spec"))
    {
        fill(spec, "volumeMode", "Filesystem");
    }
    if let Some(iscsi) = field(volume, "iscsi") {
        fill(iscsi, "iscsiInterface", "default");
    }
}

fn downward_items(source: &mut Value) {
    for item in each(source, "items") {
        if let Some(reference) = field(item, "fieldRef") {
            fill(reference, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_pulled_by_their_tags() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:9e8b1d2c", "IfNotPresent"),
            ("nginx:latest@sha256:9e8b1d2c", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_bare_pod_gets_upstreams_defaults() {
        let mut object = json!({"spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "a", "image": "nginx:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
            "volumes": [
                {"name": "e"},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            ],
        }});
        pod(&mut object);
        let expected = json!({"spec": {
            "hostNetwork": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "enableServiceLinks": true,
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "securityContext": {},
            "containers": [{
                "name": "a", "image": "nginx:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {
                    "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"},
                },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                    "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{
                    "name": "X", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
                }],
            }],
            "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "t", "projected": {
                    "defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}],
                }},
            ],
        }});
        assert_eq!(object, expected);
    }
}
