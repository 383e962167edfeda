//! A pod's resolv.conf, from its DNS policy and the node's own (upstream's `dns.Configurer`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

/// glibc reads no more name servers than these.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// As resolv.conf(5): the last `search` and `options` line counts.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => conf.nameservers.extend(words.next()),
                Some("search") => conf.searches = words.filter(|search| search != ".").collect(),
                Some("options") => conf.options = words.collect(),
                _ => {}
            }
        }
        conf
    }

    pub fn render(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.nameservers {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }

    /// What `pod` gets on a node whose own file is `host`.
    pub fn of_pod(pod: &Pod, host: &Self, cluster_dns: &[String], cluster_domain: &str) -> Self {
        let spec = pod.spec.as_ref();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
        let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
        let mut conf = match policy {
            "None" => Self::default(),
            "ClusterFirstWithHostNet" => cluster_first(host, cluster_dns, cluster_domain, namespace),
            "ClusterFirst" if !host_network => cluster_first(host, cluster_dns, cluster_domain, namespace),
            _ if host_network => host.clone(),
            _ => host.seen_from_elsewhere(cluster_dns),
        };
        if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
            conf.add(own);
        }
        conf.nameservers.truncate(MAX_NAMESERVERS);
        conf.searches.truncate(MAX_SEARCHES);
        conf
    }

    /// For a pod with a network of its own, where the node's loopback is out of reach. Upstream leaves systemd-resolved's
    /// 127.0.0.53 in, which nothing answers there, and has its users set the kubelet's `resolvConf`; k3s goes to 8.8.8.8.
    /// The cluster's DNS asks the node's resolver for whoever asks it.
    fn seen_from_elsewhere(&self, cluster_dns: &[String]) -> Self {
        let is_loopback = |server: &str| server.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let mut nameservers = Vec::new();
        for server in &self.nameservers {
            let reached = if is_loopback(server) { cluster_dns } else { std::slice::from_ref(server) };
            append_new(&mut nameservers, reached.iter());
        }
        Self { nameservers, ..self.clone() }
    }

    /// Merges a pod's `dnsConfig`: servers and searches after those that are there, options replaced by name.
    fn add(&mut self, own: &PodDNSConfig) {
        append_new(&mut self.nameservers, own.nameservers.iter().flatten());
        append_new(&mut self.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or("");
            let text = match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            };
            match self.options.iter_mut().find(|known| known.split(':').next() == Some(name)) {
                Some(known) => *known = text,
                None => self.options.push(text),
            }
        }
    }
}

fn cluster_first(host: &ResolvConf, cluster_dns: &[String], domain: &str, namespace: &str) -> ResolvConf {
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    append_new(&mut searches, host.searches.iter());
    ResolvConf { nameservers: cluster_dns.to_vec(), searches, options: vec!["ndots:5".into()] }
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies() {
        let host =
            ResolvConf::parse("# host\nnameserver 192.0.2.53\nsearch corp.example\noptions timeout:1 attempts:2\n");
        let cases = [
            (
                json!({}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
            ),
            (
                json!({"hostNetwork": true}),
                "search corp.example\nnameserver 192.0.2.53\noptions timeout:1 attempts:2\n",
            ),
            (
                json!({"dnsPolicy": "Default"}),
                "search corp.example\nnameserver 192.0.2.53\noptions timeout:1 attempts:2\n",
            ),
            (
                json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["a.b"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search a.b\nnameserver 192.0.2.1\noptions ndots:2 edns0\n",
            ),
            (
                json!({"dnsConfig": {"nameservers": ["10.96.0.10", "192.0.2.1"], "options": [{"name": "ndots", "value": "2"}]}}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:2\n",
            ),
        ];
        for (mut spec, expected) in cases {
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "shop"}, "spec": spec})).unwrap();
            let conf = ResolvConf::of_pod(&pod, &host, &["10.96.0.10".into()], "cluster.local");
            assert_eq!(conf.render(), expected, "{spec}");
        }
    }

    #[test]
    fn resolvers_on_the_nodes_loopback() {
        let node = "nameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver ::1\n";
        let elsewhere = "nameserver 10.96.0.10\nnameserver 192.0.2.53\n";
        let cases = [
            (json!({"dnsPolicy": "Default"}), elsewhere),
            (json!({"hostNetwork": true}), node),
            (json!({"hostNetwork": true, "dnsPolicy": "Default"}), node),
        ];
        for (mut spec, expected) in cases {
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let conf = ResolvConf::of_pod(&pod, &ResolvConf::parse(node), &["10.96.0.10".into()], "cluster.local");
            assert_eq!(conf.render(), expected, "{spec}");
        }
    }
}
