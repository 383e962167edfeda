//! What is refused by name, and that every field of a pod is known here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// Numbers, names and types of upstream's fields, a message a line.
const UPSTREAM: &str = include_str!("../../../../api/src/protobuf/fields.txt");

/// Fields of what a pod is made of: those that the node, or the scheduler, or the API server honours, and after `!` those
/// that [`unsupported`] refuses, always or for some of their values. A field that upstream adds belongs here.
const KNOWN: &[(&str, &str)] = &[
    (
        "PodSpec",
        "volumes containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector \
         serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC securityContext imagePullSecrets hostname \
         subdomain affinity schedulerName initContainers automountServiceAccountToken tolerations hostAliases \
         priorityClassName priority dnsConfig shareProcessNamespace readinessGates enableServiceLinks preemptionPolicy \
         topologySpreadConstraints ephemeralContainers setHostnameAsFQDN os schedulingGates resources hostnameOverride \
         !runtimeClassName !overhead !hostUsers !resourceClaims !schedulingGroup",
    ),
    (
        "PodSecurityContext",
        "runAsUser runAsNonRoot supplementalGroups fsGroup runAsGroup sysctls fsGroupChangePolicy seccompProfile \
         supplementalGroupsPolicy seLinuxChangePolicy !seLinuxOptions !windowsOptions !appArmorProfile",
    ),
    (
        "SecurityContext",
        "capabilities privileged runAsUser runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation runAsGroup \
         procMount seccompProfile !seLinuxOptions !windowsOptions !appArmorProfile",
    ),
    (
        "Container",
        "name image command args workingDir ports env resources volumeMounts livenessProbe readinessProbe lifecycle \
         terminationMessagePath imagePullPolicy securityContext stdin stdinOnce tty envFrom terminationMessagePolicy \
         startupProbe resizePolicy restartPolicy !restartPolicyRules !volumeDevices",
    ),
    ("ResourceRequirements", "limits requests !claims"),
    ("VolumeMount", "name readOnly mountPath subPath mountPropagation subPathExpr !recursiveReadOnly"),
    ("EnvVarSource", "fieldRef resourceFieldRef configMapKeyRef secretKeyRef !fileKeyRef"),
    ("EnvFromSource", "prefix configMapRef secretRef"),
    ("LifecycleHandler", "exec httpGet tcpSocket sleep"),
    ("Lifecycle", "postStart preStop stopSignal"),
    ("ProbeHandler", "exec httpGet tcpSocket grpc"),
    ("EmptyDirVolumeSource", "sizeLimit !medium"),
    ("VolumeProjection", "secret downwardAPI configMap serviceAccountToken !clusterTrustBundle !podCertificate"),
    (
        "VolumeSource",
        "hostPath emptyDir secret downwardAPI configMap projected !gcePersistentDisk !awsElasticBlockStore !gitRepo !nfs \
         !iscsi !glusterfs !persistentVolumeClaim !rbd !flexVolume !cinder !cephfs !flocker !fc !azureFile \
         !vsphereVolume !quobyte !azureDisk !photonPersistentDisk !portworxVolume !scaleIO !storageos !csi !ephemeral \
         !image",
    ),
];

#[test]
fn every_field_of_a_pod_is_known() {
    for (message, known) in KNOWN {
        let start = format!("core.v1.{message} ");
        let line = UPSTREAM.lines().find_map(|line| line.strip_prefix(&start)).expect(message);
        let names = line.split(' ').filter_map(|field| field.split_once(':')?.1.split_once('=').map(|(name, _)| name));
        let known: BTreeSet<&str> = known.split_whitespace().map(|name| name.trim_start_matches('!')).collect();
        assert_eq!(names.collect::<BTreeSet<&str>>(), known, "{message}");
    }
}

/// Whatever [`KNOWN`] says is refused is refused below, apart from volumes, which are told by what they aren't.
#[test]
fn refused_fields_have_their_cases() {
    let cases = cases();
    for (message, known) in KNOWN.iter().filter(|(message, _)| *message != "VolumeSource") {
        for name in known.split_whitespace().filter_map(|name| name.strip_prefix('!')) {
            let named = |path: &&str| path.split(['.', ':', '[', ']']).any(|part| part == name);
            assert!(cases.iter().filter_map(|(_, path)| *path).any(|path| named(&path)), "{message}.{name}");
        }
    }
}

#[test]
fn what_is_not_honoured_is_named() {
    for (mut spec, field) in cases() {
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let annotations = spec["annotations"].take();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap();
        assert_eq!(unsupported(&pod).as_deref(), field, "{spec}");
    }
}

fn volume(name: &str, source: Value) -> Value {
    json!({"volumes": [{"name": "v", (name): source}]})
}

fn container(field: &str, value: Value) -> Value {
    json!({"containers": [{"name": "c", (field): value}]})
}

/// Specs, with the annotations of their pods, and the path that is named.
fn cases() -> Vec<(Value, Option<&'static str>)> {
    let app_armor = "container.apparmor.security.beta.kubernetes.io/c";
    vec![
        (json!({}), None),
        (json!({"hostUsers": false}), Some("spec.hostUsers: false")),
        (json!({"hostUsers": true, "hostnameOverride": "other"}), None),
        (json!({"runtimeClassName": "kata"}), Some("spec.runtimeClassName")),
        (json!({"resourceClaims": [{"name": "gpu"}]}), Some("spec.resourceClaims")),
        (json!({"overhead": {"cpu": "1"}}), Some("spec.overhead")),
        (json!({"schedulingGroup": {"podGroupName": "g"}}), Some("spec.schedulingGroup")),
        (json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}}), Some("spec.securityContext.seLinuxOptions")),
        (json!({"securityContext": {"windowsOptions": {}}}), Some("spec.securityContext.windowsOptions")),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}),
            Some("spec.securityContext.appArmorProfile"),
        ),
        (json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}), None),
        (
            json!({"annotations": {(app_armor): "runtime/default"}}),
            Some("metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]"),
        ),
        (json!({"annotations": {(app_armor): "unconfined"}}), None),
        (volume("emptyDir", json!({})), None),
        (volume("emptyDir", json!({"medium": "Memory", "sizeLimit": "1Mi"})), None),
        (volume("emptyDir", json!({"medium": "HugePages"})), Some("spec.volumes[0].emptyDir.medium: HugePages")),
        (volume("persistentVolumeClaim", json!({"claimName": "c"})), Some("spec.volumes[0].persistentVolumeClaim")),
        (volume("nfs", json!({"server": "s", "path": "/"})), Some("spec.volumes[0].nfs")),
        (volume("csi", json!({"driver": "d"})), Some("spec.volumes[0].csi")),
        (volume("ephemeral", json!({})), Some("spec.volumes[0].ephemeral")),
        (volume("image", json!({"reference": "busybox"})), Some("spec.volumes[0].image")),
        (
            volume("projected", json!({"sources": [{"clusterTrustBundle": {"path": "p"}}]})),
            Some("spec.volumes[0].projected.sources.clusterTrustBundle"),
        ),
        (
            volume("projected", json!({"sources": [{"podCertificate": {"keyType": "k", "signerName": "s"}}]})),
            Some("spec.volumes[0].projected.sources.podCertificate"),
        ),
        (
            json!({"initContainers": [{"name": "i", "volumeDevices": [{"name": "d", "devicePath": "/d"}]}]}),
            Some("spec.initContainers[0].volumeDevices"),
        ),
        (container("resources", json!({"claims": [{"name": "gpu"}]})), Some("spec.containers[0].resources.claims")),
        (
            container("securityContext", json!({"seLinuxOptions": {"level": "s0"}})),
            Some("spec.containers[0].securityContext.seLinuxOptions"),
        ),
        (
            container("securityContext", json!({"windowsOptions": {}})),
            Some("spec.containers[0].securityContext.windowsOptions"),
        ),
        (
            container("securityContext", json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}})),
            Some("spec.containers[0].securityContext.appArmorProfile"),
        ),
        (
            container("volumeMounts", json!([{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}])),
            Some("spec.containers[0].volumeMounts.recursiveReadOnly: Enabled"),
        ),
        (container("volumeMounts", json!([{"name": "v", "mountPath": "/v", "recursiveReadOnly": "IfPossible"}])), None),
        (
            container(
                "env",
                json!([{"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}}]),
            ),
            Some("spec.containers[0].env.valueFrom.fileKeyRef"),
        ),
        (
            container("restartPolicyRules", json!([{"action": "RestartAllContainers"}])),
            Some("spec.containers[0].restartPolicyRules.action: RestartAllContainers"),
        ),
    ]
}
