//! The files that the kubelet keeps for a pod: its host name, /etc/hosts and resolv.conf.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// Host name and domain of a pod (upstream's `GeneratePodHostNameAndDomain`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub hostname: String,
    /// `subdomain.namespace.svc.cluster.local`, or empty.
    pub domain: String,
}

impl Names {
    pub fn of(pod: &Pod, cluster_domain: &str) -> Self {
        let spec = pod.spec.as_ref();
        let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        if let Some(hostname) = given(spec.and_then(|spec| spec.hostname_override.as_ref())) {
            return Self { hostname, domain: String::new() };
        }
        let hostname = given(spec.and_then(|spec| spec.hostname.as_ref())).unwrap_or_else(|| {
            // A host name is a DNS label: at most 63 bytes, not ending in a dash or dot.
            let name = pod.metadata.name.as_deref().unwrap_or("");
            name.get(..63).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
        });
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let domain = given(spec.and_then(|spec| spec.subdomain.as_ref()))
            .map(|subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
            .unwrap_or_default();
        Self { hostname, domain }
    }

    /// What `hostname` prints in the pod: the full name with `setHostnameAsFQDN`.
    pub fn kernel_hostname(&self, pod: &Pod) -> String {
        let full = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
        if full && !self.domain.is_empty() {
            format!("{}.{}", self.hostname, self.domain)
        } else {
            self.hostname.clone()
        }
    }
}

/// /etc/hosts of a pod with an address of its own.
pub fn hosts(addresses: &[String], names: &Names, aliases: &[HostAlias]) -> String {
    let mut out = format!("# Kubernetes-managed hosts file.\n{HOSTS}");
    for address in addresses {
        if names.domain.is_empty() {
            out.push_str(&format!("{address}\t{}\n", names.hostname));
        } else {
            out.push_str(&format!("{address}\t{0}.{1}\t{0}\n", names.hostname, names.domain));
        }
    }
    out + &alias_lines(aliases)
}

/// /etc/hosts of a pod in the node's network.
pub fn host_network_hosts(node_hosts: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(62) + "-b";
        let cases = [
            (json!({"name": "web"}), json!({}), "web", ""),
            (json!({"name": long}), json!({}), &long[..62], ""),
            (json!({"name": "web"}), json!({"hostname": "h", "subdomain": "s"}), "h", "s.shop.svc.cluster.local"),
        ];
        for (mut meta, mut spec, hostname, domain) in cases {
            meta["namespace"] = "shop".into();
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
            assert_eq!(Names::of(&pod, "cluster.local"), Names { hostname: hostname.into(), domain: domain.into() });
        }
    }

    #[test]
    fn hosts_file() {
        let names = Names { hostname: "h".into(), domain: "s.shop.svc.cluster.local".into() };
        let alias = HostAlias { ip: "192.0.2.1".into(), hostnames: Some(vec!["a".into(), "b".into()]) };
        let text = hosts(&["10.244.0.2".into()], &names, &[alias]);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with(
            "10.244.0.2\th.s.shop.svc.cluster.local\th\n\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n"
        ));
    }
}
