//! What upstream checks of a Service (`ValidateService`), in its order.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{is_headless, protocol};
use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{invalid, labels, one_of, one_of_if_set, optional_name, port, port_number, required_name};
use crate::kinds::walk::{count, list, some, text};
use crate::names;

const KUBELET_PORT: i64 = 10250;

pub fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (r#type, headless, ports) = (text(spec, "/type"), is_headless(spec), list(spec, "/ports"));
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        cluster_ip_stays(&mut errors, spec, old);
    }
    if ports.is_empty() && !headless && r#type != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    by_type(&mut errors, spec, r#type, headless);
    for i in 0..ports.len() {
        one_port(&mut errors, ports, i);
    }
    labels(&mut errors, "spec.selector", spec, "/selector");
    affinity(&mut errors, spec);
    addresses(&mut errors, spec, r#type);
    one_of(&mut errors, "spec.type", r#type, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    port_uses(&mut errors, ports, r#type);
    traffic(&mut errors, spec, r#type);
    errors
}

fn by_type(errors: &mut FieldErrors, spec: &Value, r#type: &str, headless: bool) {
    match r#type {
        "LoadBalancer" | "NodePort" => {
            for (i, port) in list(spec, "/ports").iter().enumerate() {
                if r#type == "LoadBalancer" && count(port, "/port") == KUBELET_PORT {
                    errors.push(FieldError::invalid(
                        format!("spec.ports[{i}]"),
                        &KUBELET_PORT.into(),
                        "may not expose port 10250 externally since it is used by kubelet",
                    ));
                }
            }
            if headless {
                let message = format!("may not be set to 'None' for {type} services");
                errors.push(FieldError::invalid("spec.clusterIPs[0]", &"None".into(), &message));
            }
        }
        "ExternalName" => {
            if !list(spec, "/clusterIPs").is_empty() {
                errors.push(FieldError::forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
            }
            for key in ["ipFamilies", "ipFamilyPolicy"] {
                if some(spec, &format!("/{key}")).is_some() {
                    errors
                        .push(FieldError::forbidden(format!("spec.{key}"), "may not be set for ExternalName services"));
                }
            }
            // A trailing dot makes the name whole, and is no part of it.
            let name = text(spec, "/externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            required_name(errors, "spec.externalName", name, names::dns1123_subdomain);
        }
        _ => {}
    }
}

fn one_port(errors: &mut FieldErrors, ports: &[Value], i: usize) {
    let Some(given) = ports.get(i) else { return };
    let path = format!("spec.ports[{i}]");
    let name = text(given, "/name");
    if name.is_empty() {
        if ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
    } else {
        invalid(errors, &format!("{path}.name"), name, names::dns1123_label(name));
        if ports.iter().take(i).any(|earlier| text(earlier, "/name") == name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
    }
    port_number(errors, &format!("{path}.port"), count(given, "/port"));
    one_of(errors, &format!("{path}.protocol"), text(given, "/protocol"), &["SCTP", "TCP", "UDP"]);
    port(errors, &format!("{path}.targetPort"), given.get("targetPort"));
    let application = text(given, "/appProtocol");
    optional_name(errors, &format!("{path}.appProtocol"), application, names::qualified_name);
}

fn affinity(errors: &mut FieldErrors, spec: &Value) {
    let affinity = text(spec, "/sessionAffinity");
    one_of(errors, "spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let config = some(spec, "/sessionAffinityConfig");
    if affinity == "ClientIP" {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let seconds = config.map_or(0, |config| count(config, "/clientIP/timeoutSeconds"));
        if !(1..=86400).contains(&seconds) {
            errors.push(FieldError::invalid(path, &seconds.into(), "must be greater than 0 and less than 86400"));
        }
    } else if affinity == "None" && config.is_some() {
        errors
            .push(FieldError::forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None"));
    }
}

fn addresses(errors: &mut FieldErrors, spec: &Value, r#type: &str) {
    let ips = list(spec, "/clusterIPs");
    if r#type != "ExternalName" {
        let first = text(spec, "/clusterIPs/0");
        let one = text(spec, "/clusterIP");
        if !ips.is_empty() && first != one {
            errors.push(FieldError::invalid("spec.clusterIPs", &ips.into(), "first value must match `clusterIP`"));
        }
        for (i, ip) in ips.iter().enumerate() {
            let ip = ip.as_str().unwrap_or_default();
            if i == 0 && ip == "None" {
                if ips.len() > 1 {
                    errors.push(FieldError::invalid(
                        "spec.clusterIPs",
                        &ips.into(),
                        "'None' must be the first and only value",
                    ));
                }
                continue;
            }
            invalid(errors, &format!("spec.clusterIPs[{i}]"), ip, names::ip(ip));
        }
        if ips.len() > 2 {
            errors.push(FieldError::invalid("spec.clusterIPs", &ips.into(), "may only hold up to 2 values"));
        }
        let policy = text(spec, "/ipFamilyPolicy");
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of_if_set(errors, "spec.ipFamilyPolicy", policy, &policies);
        for (i, family) in list(spec, "/ipFamilies").iter().enumerate() {
            let family = family.as_str().unwrap_or_default();
            one_of_if_set(errors, &format!("spec.ipFamilies[{i}]"), family, &["IPv4", "IPv6"]);
        }
    }
    for (i, ip) in list(spec, "/externalIPs").iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        let path = format!("spec.externalIPs[{i}]");
        invalid(errors, &path, ip, names::ip(ip));
        special_ip(errors, &path, ip);
    }
}

/// `ValidateNonSpecialIP`: traffic to these never leaves where it started.
fn special_ip(errors: &mut FieldErrors, path: &str, text: &str) {
    let Ok(ip) = text.parse::<IpAddr>() else { return };
    let (link_local, group) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    let wrong = if ip.is_unspecified() {
        format!("may not be unspecified ({text})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".into()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into()
    } else if group {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into()
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, &text.into(), &wrong));
}

fn port_uses(errors: &mut FieldErrors, ports: &[Value], r#type: &str) {
    for (i, port) in ports.iter().enumerate() {
        let node = count(port, "/nodePort");
        let path = format!("spec.ports[{i}].nodePort");
        if r#type == "ClusterIP" && node != 0 {
            errors.push(FieldError::forbidden(path, "may not be used when `type` is 'ClusterIP'"));
        }
    }
    for (key, whole) in [("nodePort", false), ("port", true)] {
        let pointer = format!("/{key}");
        for (i, port) in ports.iter().enumerate() {
            let number = count(port, &pointer);
            let same = |earlier: &Value| count(earlier, &pointer) == number && protocol(earlier) == protocol(port);
            if number == 0 || !ports.iter().take(i).any(same) {
                continue;
            }
            if whole {
                let twin = json!({"protocol": protocol(port), "port": number, "targetPort": 0});
                errors.push(FieldError::duplicate(format!("spec.ports[{i}]"), &twin));
            } else {
                errors.push(FieldError::duplicate(format!("spec.ports[{i}].{key}"), &number.into()));
            }
        }
    }
}

fn traffic(errors: &mut FieldErrors, spec: &Value, r#type: &str) {
    if r#type != "LoadBalancer" {
        for (key, shown) in [
            ("loadBalancerSourceRanges", "LoadBalancerSourceRanges"),
            ("allocateLoadBalancerNodePorts", "allocateLoadBalancerNodePorts"),
            ("loadBalancerClass", "loadBalancerClass"),
        ] {
            if some(spec, &format!("/{key}")).is_some_and(|held| held.as_array().is_none_or(|list| !list.is_empty())) {
                errors.push(FieldError::forbidden(
                    format!("spec.{shown}"),
                    "may only be used when `type` is 'LoadBalancer'",
                ));
            }
        }
    }
    let external = text(spec, "/externalTrafficPolicy");
    if !external.is_empty() {
        let takes = matches!(r#type, "NodePort" | "LoadBalancer") || !list(spec, "/externalIPs").is_empty();
        if !takes {
            errors.push(FieldError::invalid(
                "spec.externalTrafficPolicy",
                &external.into(),
                "may only be set for externally-accessible services",
            ));
        }
        one_of(errors, "spec.externalTrafficPolicy", external, &["Cluster", "Local"]);
    }
    let internal = text(spec, "/internalTrafficPolicy");
    one_of_if_set(errors, "spec.internalTrafficPolicy", internal, &["Cluster", "Local"]);
}

fn cluster_ip_stays(errors: &mut FieldErrors, spec: &Value, old: &Value) {
    if text(spec, "/type") == "ExternalName" || text(old, "/type") == "ExternalName" {
        return;
    }
    let (now, was) = (text(spec, "/clusterIP"), text(old, "/clusterIP"));
    if was.is_empty() || now == was {
        return;
    }
    let shown = spec.get("clusterIPs").cloned().unwrap_or_else(|| json!([]));
    let message = if now.is_empty() { "primary clusterIP can not be unset" } else { "may not change once set" };
    errors.push(FieldError::invalid("spec.clusterIPs[0]", &shown, message));
}
