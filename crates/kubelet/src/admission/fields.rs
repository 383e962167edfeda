//! Fields that this kubelet doesn't honour: a pod that sets one is refused by the field's name, for no pod may run
//! without what it asked for.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, Volume, VolumeProjection};

use crate::pod::init_containers;

/// The path of a field that isn't honoured.
pub fn unsupported(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let context = spec.security_context.as_ref();
    let flags = [
        ("spec.hostUsers: false", spec.host_users == Some(false)),
        ("spec.runtimeClassName", spec.runtime_class_name.as_deref().is_some_and(|name| !name.is_empty())),
        ("spec.resourceClaims", spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty())),
        ("spec.schedulingGroup", spec.scheduling_group.is_some()),
        ("spec.overhead", spec.overhead.as_ref().is_some_and(|overhead| !overhead.is_empty())),
        ("spec.securityContext.seLinuxOptions", context.is_some_and(|context| context.se_linux_options.is_some())),
        ("spec.securityContext.windowsOptions", context.is_some_and(|context| context.windows_options.is_some())),
        (
            "spec.securityContext.appArmorProfile",
            confines(context.and_then(|context| context.app_armor_profile.as_ref())),
        ),
    ];
    if let Some((field, _)) = flags.into_iter().find(|(_, asked)| *asked) {
        return Some(field.to_owned());
    }
    let annotations = pod.metadata.annotations.iter().flatten();
    let app_armor = "container.apparmor.security.beta.kubernetes.io/";
    if let Some((key, _)) =
        annotations.into_iter().find(|(key, value)| key.starts_with(app_armor) && *value != "unconfined")
    {
        return Some(format!("metadata.annotations[{key}]"));
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Some(field) = unsupported_volume(volume) {
            return Some(format!("spec.volumes[{index}].{field}"));
        }
    }
    let lists = [("initContainers", init_containers(spec)), ("containers", &spec.containers)];
    for (list, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            if let Some(field) = unsupported_in_container(container) {
                return Some(format!("spec.{list}[{index}].{field}"));
            }
        }
    }
    None
}

/// The same below one container.
pub fn unsupported_in_container(container: &Container) -> Option<&'static str> {
    let context = container.security_context.as_ref();
    let mounts = || container.volume_mounts.iter().flatten();
    let env = || container.env.iter().flatten();
    let resources = container.resources.as_ref();
    let flags = [
        ("volumeDevices", container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty())),
        (
            "restartPolicyRules.action: RestartAllContainers",
            container.restart_policy_rules.iter().flatten().any(|rule| rule.action != "Restart"),
        ),
        (
            "resources.claims",
            resources.is_some_and(|resources| resources.claims.as_ref().is_some_and(|c| !c.is_empty())),
        ),
        ("securityContext.seLinuxOptions", context.is_some_and(|context| context.se_linux_options.is_some())),
        ("securityContext.windowsOptions", context.is_some_and(|context| context.windows_options.is_some())),
        ("securityContext.appArmorProfile", confines(context.and_then(|context| context.app_armor_profile.as_ref()))),
        (
            "volumeMounts.recursiveReadOnly: Enabled",
            mounts().any(|mount| mount.recursive_read_only.as_deref() == Some("Enabled")),
        ),
        (
            "env.valueFrom.fileKeyRef",
            env().any(|variable| variable.value_from.as_ref().is_some_and(|source| source.file_key_ref.is_some())),
        ),
    ];
    flags.into_iter().find(|(_, asked)| *asked).map(|(field, _)| field)
}

fn confines(profile: Option<&AppArmorProfile>) -> bool {
    profile.is_some_and(|profile| profile.type_ != "Unconfined")
}

fn unsupported_volume(volume: &Volume) -> Option<String> {
    if let Some(empty) = &volume.empty_dir {
        let medium = empty.medium.as_deref().unwrap_or("");
        return (!matches!(medium, "" | "Memory")).then(|| format!("emptyDir.medium: {medium}"));
    }
    if let Some(projected) = &volume.projected {
        return projected.sources.iter().flatten().find_map(unsupported_projection).map(str::to_owned);
    }
    let plain = volume.host_path.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some();
    if plain {
        return None;
    }
    // Whatever else it is, its name is the one key beside `name`.
    let value = serde_json::to_value(volume).ok()?;
    let source = value.as_object()?.keys().find(|key| *key != "name").cloned();
    // A volume without a source is an emptyDir by the API's default.
    source
}

fn unsupported_projection(source: &VolumeProjection) -> Option<&'static str> {
    if source.cluster_trust_bundle.is_some() {
        return Some("projected.sources.clusterTrustBundle");
    }
    source.pod_certificate.is_some().then_some("projected.sources.podCertificate")
}

#[cfg(test)]
mod tests;
