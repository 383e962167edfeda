//! What a cluster has from its first moment: namespaces, roles, priority classes, the API's own Service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures::stream::{self, TryStreamExt};
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};
use tug_api::kinds::{core, discovery, networking, rbac, scheduling};
use tug_api::{Kind, ObjectKey};

use crate::auth::Access;
use crate::objects::Objects;
use crate::rbac::{Rule, covers, policy};
use crate::status::Status;

/// Writes under way at once: enough that the store puts them into few transactions.
const AT_ONCE: usize = 128;

/// Makes what isn't there and corrects what upstream corrects at each start; quick when all is there. `advertise` is where
/// the API answers nodes and pods, `services` the range of Service addresses.
///
/// # Errors
/// If the store refuses a write.
pub async fn ensure(access: &Access, advertise: SocketAddr, services: Ipv4Net) -> Result<(), Status> {
    let objects = &*access.objects;
    run(objects, namespaces()).await?;
    let mut wanted = vec![
        Wanted::kept(&networking::SERVICE_CIDR, service_cidr(services)),
        Wanted::kept(&core::SERVICE, api_service(services, advertise.port())),
        Wanted::kept(&core::SERVICE, dns_service(services)),
        Wanted::made_equal(&core::ENDPOINTS, api_endpoints(advertise), &["subsets"]),
        Wanted::made_equal(&discovery::ENDPOINT_SLICE, api_endpoint_slice(advertise), &["endpoints", "ports"]),
        Wanted::made_equal(&core::CONFIG_MAP, client_ca(access.pki.ca_pem()), &["data"]),
        Wanted::made_equal(&core::CONFIG_MAP, cluster_info(access.pki.ca_pem(), advertise), &["data"]),
    ];
    wanted.extend(priority_classes());
    let each = |kind, values: Vec<Value>, way| values.into_iter().map(move |value| Wanted { kind, value, way });
    wanted.extend(each(&rbac::CLUSTER_ROLE, policy::cluster_roles(), Way::Rules));
    wanted.extend(each(&rbac::CLUSTER_ROLE_BINDING, policy::cluster_role_bindings(), Way::Subjects));
    wanted.extend(each(&rbac::ROLE, policy::roles(), Way::Rules));
    wanted.extend(each(&rbac::ROLE_BINDING, policy::role_bindings(), Way::Subjects));
    run(objects, wanted).await
}

/// An object that shall be there.
struct Wanted {
    kind: &'static Kind,
    value: Value,
    way: Way,
}

/// What becomes of one that is there already.
#[derive(Clone, Copy)]
enum Way {
    /// It is the user's by now.
    Keep,
    /// These fields are made what they should be.
    Fields(&'static [&'static str]),
    /// Missing rules are added unless `autoupdate` is `false`.
    Rules,
    /// Missing subjects are added unless `autoupdate` is `false`.
    Subjects,
}

// === impl Wanted ===

impl Wanted {
    fn kept(kind: &'static Kind, value: Value) -> Self {
        Self { kind, value, way: Way::Keep }
    }

    fn made_equal(kind: &'static Kind, value: Value, fields: &'static [&'static str]) -> Self {
        Self { kind, value, way: Way::Fields(fields) }
    }

    async fn ensure(self, objects: &dyn Objects) -> Result<(), Status> {
        let metadata = &self.value["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let key = ObjectKey::new(text("namespace"), text("name"));
        let Some(there) = objects.get(self.kind, &key) else {
            return match objects.create(self.kind, self.value).await {
                Err(status) if status.reason != "AlreadyExists" => Err(status),
                _ => Ok(()),
            };
        };
        let there = there.value().map_err(Status::internal)?;
        let Some(corrected) = self.corrected(there) else { return Ok(()) };
        match objects.update(self.kind, corrected).await {
            // Somebody else is at it; the next start looks again.
            Err(status) if status.reason != "Conflict" => Err(status),
            _ => Ok(()),
        }
    }

    /// What is there with what it lacks, or `None` if it lacks nothing.
    fn corrected(&self, mut there: Value) -> Option<Value> {
        match self.way {
            Way::Keep => None,
            Way::Fields(fields) => {
                if fields.iter().all(|field| contains(&there[field], &self.value[field])) {
                    return None;
                }
                for field in fields {
                    there[field] = self.value[field].clone();
                }
                Some(there)
            }
            Way::Rules | Way::Subjects if !autoupdates(&there) => None,
            Way::Rules => {
                let rules =
                    |value: &Value| -> Vec<Rule> { serde_json::from_value(value["rules"].clone()).unwrap_or_default() };
                let missing = covers(&rules(&there), &rules(&self.value)).err()?;
                let mut held = rules(&there);
                held.extend(missing);
                there["rules"] = json!(held);
                Some(there)
            }
            Way::Subjects => {
                let mut subjects = there["subjects"].as_array().cloned().unwrap_or_default();
                let missing = self.value["subjects"].as_array().into_iter().flatten();
                let missing: Vec<Value> =
                    missing.filter(|subject| !subjects.iter().any(|held| contains(held, subject))).cloned().collect();
                if missing.is_empty() {
                    return None;
                }
                subjects.extend(missing);
                there["subjects"] = subjects.into();
                Some(there)
            }
        }
    }
}

async fn run(objects: &dyn Objects, wanted: Vec<Wanted>) -> Result<(), Status> {
    stream::iter(wanted.into_iter().map(|wanted| Ok(wanted.ensure(objects))))
        .try_buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Whether `there` says everything that `wanted` says; defaults may have added to it.
fn contains(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| contains(there.get(field).unwrap_or(&Value::Null), value))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| contains(there, wanted))
        }
        (there, wanted) => there == wanted,
    }
}

fn autoupdates(object: &Value) -> bool {
    object["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "true"
}

fn namespaces() -> Vec<Wanted> {
    let namespace = |name: &str| {
        Wanted::kept(
            &core::NAMESPACE,
            json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }),
        )
    };
    ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace).into()
}

fn priority_classes() -> impl Iterator<Item = Wanted> {
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ];
    classes.into_iter().map(|(name, value, description)| {
        Wanted::kept(
            &scheduling::PRIORITY_CLASS,
            json!({
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                "globalDefault": false,
                "description": description,
                "preemptionPolicy": "PreemptLowerPriority",
            }),
        )
    })
}

/// The range's address of that number: kubeadm gives the first to the API and the tenth to DNS.
fn nth(services: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.network()) + number)
}

/// Of the name that upstream gives to the range of the API server's flag.
fn service_cidr(services: Ipv4Net) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [services.to_string()]},
    })
}

fn api_service(services: Ipv4Net, port: u16) -> Value {
    let address = nth(services, 1);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    })
}

/// Its endpoints are written by whoever serves DNS: it has no selector because Tug's DNS is no pod.
fn dns_service(services: Ipv4Net) -> Value {
    let address = nth(services, 10);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
            ],
        },
    })
}

fn api_endpoints(advertise: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
        }],
    })
}

fn api_endpoint_slice(advertise: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if matches!(advertise.ip(), IpAddr::V4(_)) { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
    })
}

/// Where extension API servers learn whom to trust.
fn client_ca(ca_pem: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": ca_pem},
    })
}

/// A kubeconfig without a user, as kubeadm publishes it for those about to join.
fn cluster_info(ca_pem: &str, advertise: SocketAddr) -> Value {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "",
            "cluster": {"server": format!("https://{advertise}"), "certificate-authority-data": ca},
        }],
        "contexts": null,
        "current-context": "",
        "preferences": {},
        "users": null,
    });
    let mut data = Map::new();
    // JSON is YAML too.
    data.insert("kubeconfig".into(), kubeconfig.to_string().into());
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::{Registry, access};

    fn services() -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(10, 200, 0, 0), 16)
    }

    #[tokio::test]
    async fn services_of_the_cluster_are_in_its_range() {
        let registry = Registry::with(&[]);
        let advertise: SocketAddr = "10.1.2.3:6443".parse().expect("an address");
        ensure(&access(&registry), advertise, services()).await.expect("made");
        for (namespace, name, address) in
            [("default", "kubernetes", "10.200.0.1"), ("kube-system", "kube-dns", "10.200.0.10")]
        {
            let service =
                registry.get(&core::SERVICE, &ObjectKey::new(namespace, name)).expect(name).value().expect("JSON");
            assert_eq!(service["spec"]["clusterIP"], address);
            assert_eq!(service["spec"]["clusterIPs"], json!([address]));
        }
    }

    #[tokio::test]
    async fn a_second_start_writes_nothing_and_a_user_may_take_roles_over() {
        let registry = Registry::with(&[]);
        let access = access(&registry);
        let advertise: SocketAddr = "10.1.2.3:6443".parse().expect("an address");
        ensure(&access, advertise, services()).await.expect("made");
        let writes = registry.writes();
        assert!(writes > 100, "namespaces, roles and bindings: {writes}");
        ensure(&access, advertise, services()).await.expect("there");
        assert_eq!(registry.writes(), writes);

        let key = ObjectKey::new("", "view");
        let view = registry.get(&rbac::CLUSTER_ROLE, &key).expect("view").value().expect("JSON");
        let mut cut = view.clone();
        cut["rules"] = json!([]);
        registry.put(cut.clone());
        ensure(&access, advertise, services()).await.expect("mended");
        let mended = registry.get(&rbac::CLUSTER_ROLE, &key).expect("view").value().expect("JSON");
        let rules = |role: &Value| -> Vec<Rule> { serde_json::from_value(role["rules"].clone()).expect("rules") };
        covers(&rules(&mended), &rules(&view)).expect("what was cut is there again");

        cut["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
        registry.put(cut);
        ensure(&access, advertise, services()).await.expect("left alone");
        let left = registry.get(&rbac::CLUSTER_ROLE, &key).expect("view").value().expect("JSON");
        assert_eq!(left["rules"], json!([]));
    }

    #[tokio::test]
    async fn the_apis_endpoints_follow_its_address() {
        let registry = Registry::with(&[]);
        let access = access(&registry);
        for address in ["10.1.2.3:6443", "10.1.2.4:16443"] {
            let advertise: SocketAddr = address.parse().expect("an address");
            ensure(&access, advertise, services()).await.expect("made");
            let key = ObjectKey::new("default", "kubernetes");
            let endpoints = registry.get(&core::ENDPOINTS, &key).expect("endpoints").value().expect("JSON");
            assert_eq!(endpoints["subsets"], api_endpoints(advertise)["subsets"]);
            let slice = registry.get(&discovery::ENDPOINT_SLICE, &key).expect("slice").value().expect("JSON");
            assert_eq!(slice["endpoints"][0]["addresses"], json!([advertise.ip().to_string()]));
            assert_eq!(slice["ports"][0]["port"], advertise.port());
        }
    }
}
