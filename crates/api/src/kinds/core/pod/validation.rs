//! What upstream checks of a pod's spec (`ValidatePodSpec`), in its order, for pods and templates of pods.

use serde_json::Value;

use super::containers::{self, Surroundings};
use super::{ephemeral, placement, volumes};
use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{in_range, invalid, labels, one_of, one_of_if_set, optional_name, required};
use crate::kinds::walk::{count, flag, int, list, some, text};
use crate::names;

/// What holds the spec.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Pod,
    /// Some fields are open until a pod is made from it.
    Template,
}

/// Checks the spec that stands at `path`.
pub fn pod_spec(errors: &mut FieldErrors, path: &str, spec: &Value, holder: Holder) {
    let grace = int(spec, "/terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(FieldError::required(format!("{path}.terminationGracePeriodSeconds"), ""));
    }
    let volumes = volumes::volumes(errors, &format!("{path}.volumes"), list(spec, "/volumes"));
    let pod = Surroundings { volumes: &volumes, grace_period: grace.unwrap_or_default() };
    containers::containers(errors, &format!("{path}.containers"), list(spec, "/containers"), &pod);
    containers::init_containers(errors, &format!("{path}.initContainers"), spec, &pod);
    ephemeral::containers(errors, &format!("{path}.ephemeralContainers"), spec, &pod);
    if let Some(resources) = some(spec, "/resources") {
        containers::resources(errors, &format!("{path}.resources"), resources);
    }
    let restart = text(spec, "/restartPolicy");
    one_of(errors, &format!("{path}.restartPolicy"), restart, &["Always", "OnFailure", "Never"]);
    let dns = text(spec, "/dnsPolicy");
    one_of(errors, &format!("{path}.dnsPolicy"), dns, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    labels(errors, &format!("{path}.nodeSelector"), spec, "/nodeSelector");
    if flag(spec, "/hostNetwork") {
        host_network_ports(errors, path, spec, holder);
    }
    if let Some(context) = some(spec, "/securityContext") {
        security_context(errors, path, spec, context);
    }
    for (i, secret) in list(spec, "/imagePullSecrets").iter().enumerate() {
        // Upstream: a reference without a name is useless, but taken; only values that it couldn't store are refused.
        let name = text(secret, "/name");
        optional_name(errors, &format!("{path}.imagePullSecrets[{i}].name"), name, names::dns1123_subdomain);
    }
    if let Some(affinity) = some(spec, "/affinity") {
        placement::affinity(errors, &format!("{path}.affinity"), affinity);
    }
    dns_config(errors, path, spec, dns);
    for (i, gate) in list(spec, "/readinessGates").iter().enumerate() {
        let condition = text(gate, "/conditionType");
        let at = format!("{path}.readinessGates[{i}].conditionType");
        invalid(errors, &at, condition, names::qualified_name(condition));
    }
    scheduling_gates(errors, &format!("{path}.schedulingGates"), list(spec, "/schedulingGates"));
    let at = format!("{path}.topologySpreadConstraints");
    placement::spread_constraints(errors, &at, list(spec, "/topologySpreadConstraints"));
    let subdomain = names::dns1123_subdomain;
    optional_name(errors, &format!("{path}.serviceAccountName"), text(spec, "/serviceAccountName"), subdomain);
    optional_name(errors, &format!("{path}.nodeName"), text(spec, "/nodeName"), subdomain);
    in_range(errors, path, spec, "activeDeadlineSeconds", 1, i64::from(i32::MAX));
    optional_name(errors, &format!("{path}.hostname"), text(spec, "/hostname"), names::dns1123_label);
    optional_name(errors, &format!("{path}.subdomain"), text(spec, "/subdomain"), names::dns1123_label);
    placement::tolerations(errors, &format!("{path}.tolerations"), list(spec, "/tolerations"));
    host_aliases(errors, &format!("{path}.hostAliases"), list(spec, "/hostAliases"));
    optional_name(errors, &format!("{path}.priorityClassName"), text(spec, "/priorityClassName"), subdomain);
    optional_name(errors, &format!("{path}.runtimeClassName"), text(spec, "/runtimeClassName"), subdomain);
    let preemption = text(spec, "/preemptionPolicy");
    one_of_if_set(errors, &format!("{path}.preemptionPolicy"), preemption, &["PreemptLowerPriority", "Never"]);
    if let Some(os) = some(spec, "/os") {
        one_of(errors, &format!("{path}.os.name"), text(os, "/name"), &["linux", "windows"]);
    }
}

/// On the host's network a container's port is the host's port.
fn host_network_ports(errors: &mut FieldErrors, path: &str, spec: &Value, holder: Holder) {
    for (i, container) in list(spec, "/containers").iter().enumerate() {
        for (n, port) in list(container, "/ports").iter().enumerate() {
            let host = count(port, "/hostPort");
            let open = host == 0 && holder == Holder::Template;
            if !open && host != count(port, "/containerPort") {
                errors.push(FieldError::invalid(
                    format!("{path}.containers[{i}].ports[{n}].hostPort"),
                    &host.into(),
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

fn security_context(errors: &mut FieldErrors, pod_path: &str, spec: &Value, context: &Value) {
    let path = format!("{pod_path}.securityContext");
    containers::user_ids(errors, &path, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    for (i, group) in list(context, "/supplementalGroups").iter().enumerate() {
        if !(0..=i64::from(i32::MAX)).contains(&group.as_i64().unwrap_or(-1)) {
            errors.push(FieldError::invalid(
                format!("{path}.supplementalGroups[{i}]"),
                group,
                "must be between 0 and 2147483647, inclusive",
            ));
        }
    }
    if flag(spec, "/shareProcessNamespace") && flag(spec, "/hostPID") {
        errors.push(FieldError::invalid(
            format!("{path}.shareProcessNamespace"),
            &true.into(),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    for (i, sysctl) in list(context, "/sysctls").iter().enumerate() {
        required(errors, &format!("{path}.sysctls[{i}].name"), text(sysctl, "/name"));
    }
    let change = text(context, "/fsGroupChangePolicy");
    one_of_if_set(errors, &format!("{path}.fsGroupChangePolicy"), change, &["Always", "OnRootMismatch"]);
    if let Some(profile) = some(context, "/seccompProfile") {
        containers::profile_of(errors, &format!("{path}.seccompProfile"), profile, "seccomp", "seccompProfile");
    }
    if let Some(profile) = some(context, "/appArmorProfile") {
        containers::profile_of(errors, &format!("{path}.appArmorProfile"), profile, "AppArmor", "appArmorProfile");
    }
}

fn dns_config(errors: &mut FieldErrors, path: &str, spec: &Value, policy: &str) {
    let servers = list(spec, "/dnsConfig/nameservers");
    let at = format!("{path}.dnsConfig.nameservers");
    if policy == "None" {
        if some(spec, "/dnsConfig").is_none() {
            errors.push(FieldError::required(
                format!("{path}.dnsConfig"),
                "must provide `dnsConfig` when `dnsPolicy` is None",
            ));
            return;
        }
        if servers.is_empty() {
            errors.push(FieldError::required(&at, "must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if servers.len() > 3 {
        errors.push(FieldError::invalid(&at, &servers.into(), "must not have more than 3 nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        let server = server.as_str().unwrap_or_default();
        invalid(errors, &format!("{at}[{i}]"), server, names::ip(server));
    }
    let searches = list(spec, "/dnsConfig/searches");
    let at = format!("{path}.dnsConfig.searches");
    if searches.len() > 32 {
        errors.push(FieldError::invalid(&at, &searches.into(), "must not have more than 32 search paths"));
    }
    for (i, search) in searches.iter().enumerate() {
        let search = search.as_str().unwrap_or_default();
        // A lone dot and a trailing one are allowed.
        let name = search.strip_suffix('.').unwrap_or(search);
        if search != "." {
            invalid(errors, &format!("{at}[{i}]"), search, names::dns1123_subdomain(name));
        }
    }
    for (i, option) in list(spec, "/dnsConfig/options").iter().enumerate() {
        if text(option, "/name").is_empty() {
            errors.push(FieldError::required(format!("{path}.dnsConfig.options[{i}]"), "must not be empty"));
        }
    }
}

fn scheduling_gates(errors: &mut FieldErrors, path: &str, gates: &[Value]) {
    for (i, gate) in gates.iter().enumerate() {
        let name = text(gate, "/name");
        invalid(errors, &format!("{path}[{i}]"), name, names::qualified_name(name));
        if gates.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}[{i}]"), &name.into()));
        }
    }
}

fn host_aliases(errors: &mut FieldErrors, path: &str, aliases: &[Value]) {
    for (i, alias) in aliases.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let ip = text(alias, "/ip");
        invalid(errors, &format!("{path}.ip"), ip, names::ip(ip));
        for (n, name) in list(alias, "/hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            invalid(errors, &format!("{path}.hostnames[{n}]"), name, names::dns1123_subdomain(name));
        }
    }
}
