//! Security contexts: the pod's, overridden by the container's, as settings of the runtime.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use crate::runtime::{ContainerSpec, ImageGroups, MaskedPaths, Seccomp};

/// Sets what the security contexts ask for. `image_user` is from the image's configuration.
///
/// # Errors
/// In upstream's words, for `CreateContainerConfigError`.
pub fn apply(
    spec: &mut ContainerSpec,
    pod: &Pod,
    container: &Container,
    image_user: &str,
    seccomp_dir: &Path,
) -> Result<(), String> {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or(pod_context.and_then(|context| context.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(pod_context.and_then(|context| context.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or(pod_context.and_then(|context| context.run_as_non_root));
    if non_root == Some(true) {
        check_non_root(user, image_user, pod, container)?;
    }
    spec.user = match (user, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => {
            let user = image_user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
            Some(format!("{user}:{group}"))
        }
        (None, None) => None,
    };
    let groups = pod_context.and_then(|context| context.supplemental_groups.as_deref()).unwrap_or_default();
    let fs_group = pod_context.and_then(|context| context.fs_group);
    spec.supplemental_groups =
        groups.iter().copied().chain(fs_group).filter_map(|gid| u32::try_from(gid).ok()).collect();
    spec.image_groups = match pod_context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => ImageGroups::Never,
        _ => ImageGroups::Always,
    };
    spec.privileged = own.and_then(|own| own.privileged) == Some(true);
    spec.readonly_rootfs = own.and_then(|own| own.read_only_root_filesystem) == Some(true);
    spec.no_new_privileges = own.and_then(|own| own.allow_privilege_escalation) == Some(false);
    if let Some(capabilities) = own.and_then(|own| own.capabilities.as_ref()) {
        let plain = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
        spec.cap_add = capabilities.add.iter().flatten().map(plain).collect();
        spec.cap_drop = capabilities.drop.iter().flatten().map(plain).collect();
    }
    if own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked") {
        spec.masked_paths = MaskedPaths::Unmasked;
    }
    let profile = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or(pod_context.and_then(|context| context.seccomp_profile.as_ref()));
    spec.seccomp = seccomp(profile, spec.privileged, seccomp_dir);
    Ok(())
}

/// Without a profile there is none, as upstream without `seccompDefault`.
fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, dir: &Path) -> Seccomp {
    match profile {
        _ if privileged => Seccomp::Unconfined,
        Some(profile) if profile.type_ == "RuntimeDefault" => Seccomp::Default,
        Some(profile) if profile.type_ == "Localhost" => {
            Seccomp::File(dir.join(PathBuf::from(profile.localhost_profile.as_deref().unwrap_or(""))))
        }
        _ => Seccomp::Unconfined,
    }
}

fn check_non_root(user: Option<i64>, image_user: &str, pod: &Pod, container: &Container) -> Result<(), String> {
    let whose = format!("(pod: \"{}\", container: {})", crate::pod::full_name(pod), container.name);
    match user {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {whose}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or("");
    match name.parse::<i64>() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whose}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users() {
        // (pod's context, container's context, image's user) -> user or the start of the error
        let cases = [
            (json!({}), json!({}), "", Ok(None)),
            (json!({"runAsUser": 1000}), json!({}), "", Ok(Some("1000"))),
            (json!({"runAsUser": 1000}), json!({"runAsUser": 7}), "", Ok(Some("7"))),
            (json!({"runAsGroup": 5}), json!({}), "nginx", Ok(Some("nginx:5"))),
            (json!({"runAsUser": 1000, "runAsGroup": 5}), json!({}), "", Ok(Some("1000:5"))),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "",
                Err("container has runAsNonRoot and image will run as root"),
            ),
            (json!({"runAsNonRoot": true}), json!({}), "101:1", Ok(None)),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "nginx",
                Err("container has runAsNonRoot and image has non-numeric user (nginx)"),
            ),
            (json!({}), json!({"runAsNonRoot": true, "runAsUser": 0}), "", Err("container's runAsUser breaks")),
        ];
        for (pod_context, context, image_user, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": {
                "securityContext": pod_context,
                "containers": [{"name": "c", "securityContext": context}]}}))
            .unwrap();
            let container = &pod.spec.as_ref().unwrap().containers[0];
            let mut spec = ContainerSpec::default();
            let got = apply(&mut spec, &pod, container, image_user, Path::new("/"));
            match expected {
                Ok(user) => assert_eq!((got, spec.user.as_deref()), (Ok(()), user)),
                Err(start) => assert!(got.unwrap_err().starts_with(start)),
            }
        }
    }
}
