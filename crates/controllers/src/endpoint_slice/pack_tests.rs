//! Cases of upstream's `endpointslice/reconciler_test.go`: how many endpoints each slice has afterwards, and by which
//! writes.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tug_api::Object;

use super::*;
use crate::pod::Pod;
use crate::testing::{object, pod, with};

fn service(fields: &Value) -> (Arc<Object>, Service) {
    let base = json!({ "spec": {
        "clusterIP": "10.96.0.10", "ipFamilies": ["IPv4"], "selector": { "app": "a" },
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 80 }],
    } });
    let object = object("s", &with(&base, fields));
    let service = serde_json::from_slice(object.json()).expect("a Service");
    (object, service)
}

fn pods(numbers: std::ops::Range<usize>) -> Vec<Pod> {
    let make = |n: usize| {
        let status = json!({ "podIPs": [{ "ip": format!("10.244.{}.{}", n / 250, n % 250) }] });
        pod(&format!("p{n:04}"), &json!({ "spec": { "nodeName": "n1" }, "status": status }))
    };
    numbers.map(make).collect()
}

/// What the API server has, written as plans say.
#[derive(Default)]
struct Server {
    slices: Vec<Arc<EndpointSlice>>,
    made: usize,
}

impl Server {
    /// Returns how many were made, changed and deleted.
    fn reconcile(&mut self, service: &(Arc<Object>, Service), pods: &[Pod], most: usize) -> [usize; 3] {
        let zone = |_: &str| Some(String::new());
        let subject = Subject { object: &service.0, service: &service.1, zone: &zone };
        let wanted = subject.address_types().into_iter().map(|kind| (kind, subject.groups(pods, kind))).collect();
        let Plan { create, update, delete } = plan(&subject, &self.slices, wanted, most);
        let writes = [create.len(), update.len(), delete.len()];
        for slice in create {
            self.made += 1;
            self.put(&format!("slice{}", self.made), slice);
        }
        for slice in update {
            let name = slice.metadata.name.clone().expect("an update has a name");
            let place = self.slices.iter().position(|known| known.metadata.name == slice.metadata.name);
            self.slices.remove(place.expect("it exists"));
            self.put(&name, slice);
        }
        for slice in delete {
            self.slices.retain(|known| known.metadata.name != slice.metadata.name);
        }
        writes
    }

    fn put(&mut self, name: &str, mut slice: EndpointSlice) {
        slice.metadata.name = Some(name.into());
        self.slices.push(Arc::new(slice));
    }

    fn lengths(&self) -> Vec<usize> {
        let mut lengths: Vec<_> = self.slices.iter().map(|slice| count(slice)).collect();
        lengths.sort();
        lengths
    }

    /// Slices that another reconciliation has left, of these pods each.
    fn with(service: &(Arc<Object>, Service), parts: &[(usize, usize)]) -> Self {
        let mut server = Self::default();
        for &(from, to) in parts {
            let mut alone = Self { made: server.made, ..Self::default() };
            alone.reconcile(service, &pods(from..to), 1000);
            server.made = alone.made;
            server.slices.extend(alone.slices);
        }
        server
    }
}

#[test]
fn endpoints_go_where_they_cost_the_fewest_writes() {
    let service = service(&json!({}));
    /// Pods of each slice before, all pods, the writes, and the lengths after.
    type Case<'a> = (&'a str, &'a [(usize, usize)], std::ops::Range<usize>, [usize; 3], &'a [usize]);
    let cases: [Case<'_>; 9] = [
        ("TestReconcileManyPods", &[], 0..250, [3, 0, 0], &[50, 100, 100]),
        // 127 to add: a new slice of 100, and 27 to the fullest that has room.
        ("SomePreexisting", &[(0, 62), (62, 123)], 0..250, [1, 1, 0], &[61, 89, 100]),
        // 152 to add: 100, and 52 that fit into neither whole.
        ("SomePreexistingWorseAllocation", &[(0, 74), (74, 148)], 0..300, [2, 0, 0], &[52, 74, 74, 100]),
        ("as it was", &[(0, 10)], 0..10, [0, 0, 0], &[10]),
        ("one goes", &[(0, 10)], 1..10, [0, 1, 0], &[9]),
        ("one goes and one comes, in one write", &[(0, 10), (10, 20)], 1..21, [0, 1, 0], &[10, 10]),
        ("a slice is emptied", &[(0, 10), (10, 20)], 10..20, [0, 0, 1], &[10]),
        ("a slice is emptied while another is needed", &[(0, 10), (10, 110)], 10..120, [0, 1, 0], &[10, 100]),
        ("all go", &[(0, 10), (10, 20)], 0..0, [0, 1, 1], &[0]),
    ];
    for (case, before, all, writes, lengths) in cases {
        let mut server = Server::with(&service, before);
        let all = pods(all);
        assert_eq!(server.reconcile(&service, &all, 100), writes, "{case}");
        assert_eq!(server.lengths(), lengths, "{case}");
        assert_eq!(server.reconcile(&service, &all, 100), [0, 0, 0], "{case}, again");
    }
}

#[test]
fn a_service_without_endpoints_has_one_empty_slice() {
    let service = service(&json!({}));
    let mut server = Server::default();
    assert_eq!(server.reconcile(&service, &[], 100), [1, 0, 0]);
    assert_eq!(server.slices[0].ports, Some(vec![]));
    assert_eq!(server.reconcile(&service, &[], 100), [0, 0, 0]);
    assert_eq!(server.reconcile(&service, &pods(0..3), 100), [0, 1, 0], "it is filled");
    assert_eq!(server.lengths(), [3]);
}

/// `TestReconcileEndpointSlicesUpdating`.
#[test]
fn a_new_port_changes_slices_in_place() {
    let mut server = Server::default();
    let all = pods(0..250);
    server.reconcile(&service(&json!({})), &all, 100);
    let other =
        service(&json!({ "spec": { "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 81 }] } }));
    assert_eq!(server.reconcile(&other, &all, 100), [0, 3, 0]);
    assert_eq!(server.lengths(), [50, 100, 100]);
    let ports: Vec<_> = server.slices.iter().map(|slice| ports_of(slice)[0].1).collect();
    assert_eq!(ports, [81, 81, 81]);
}

/// `TestReconcileEndpointSlicesServicesLabelsUpdating`.
#[test]
fn new_labels_of_the_service_go_to_all_slices() {
    let mut server = Server::default();
    let all = pods(0..150);
    server.reconcile(&service(&json!({})), &all, 100);
    let labeled = service(&json!({ "metadata": { "labels": { "foo": "bar" } } }));
    assert_eq!(server.reconcile(&labeled, &all, 100), [0, 2, 0]);
    let labels =
        |slice: &Arc<EndpointSlice>| slice.metadata.labels.as_ref().and_then(|labels| labels.get("foo").cloned());
    assert!(server.slices.iter().all(|slice| labels(slice).as_deref() == Some("bar")));
}

#[test]
fn a_pod_that_changes_is_changed_where_it_is() {
    let service = service(&json!({}));
    let mut server = Server::with(&service, &[(0, 3), (3, 6)]);
    let mut all = pods(0..6);
    let fields = json!({
        "spec": { "nodeName": "n1" },
        "status": { "podIPs": [{ "ip": "10.244.0.4" }], "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    all[4] = pod("p0004", &fields);
    assert_eq!(server.reconcile(&service, &all, 100), [0, 1, 0]);
    let ready = |slice: &Arc<EndpointSlice>| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count()
    };
    assert_eq!(server.slices.iter().map(ready).sum::<usize>(), 1);
}

/// `TestReconcile_TransitionTypes…`: slices of an earlier Service of that name, and of a family given up.
#[test]
fn what_isnt_the_services_goes() {
    let earlier = service(&json!({ "metadata": { "uid": "earlier" } }));
    let service_now = service(&json!({}));
    let mut server = Server::with(&earlier, &[(0, 3)]);
    assert_eq!(server.reconcile(&service_now, &pods(0..3), 100), [1, 0, 1]);

    let dual = service(&json!({ "spec": { "ipFamilies": ["IPv4", "IPv6"] } }));
    assert_eq!(server.reconcile(&dual, &pods(0..3), 100), [1, 0, 0], "an empty slice of the second family");
    assert_eq!(server.reconcile(&service_now, &pods(0..3), 100), [0, 0, 1]);
    assert_eq!(server.lengths(), [3]);
}
