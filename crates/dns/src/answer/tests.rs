use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tug_api::Object;
use tug_client::Change;

use super::*;

fn new(value: Value) -> Change {
    let object = Object::decode(Bytes::from(value.to_string())).expect("an object");
    Change { old: None, new: Some(Arc::new(object)) }
}

fn replaced(change: &Change, new: Option<Value>) -> Change {
    let new = new.map(|value| Arc::new(Object::decode(Bytes::from(value.to_string())).expect("an object")));
    Change { old: change.new.clone(), new }
}

fn service(name: &str, spec: Value) -> Change {
    new(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
}

fn slice_value(service: &str, endpoints: Value) -> Value {
    json!({"metadata": {"name": format!("{service}-x"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

fn endpoint(address: &str, hostname: Value, ready: bool) -> Value {
    json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}})
}

/// The objects of the specification's examples.
fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local").expect("a domain");
    zone.namespace(&new(json!({"metadata": {"name": "shop"}})));
    zone.service(&service(
        "web",
        json!({"clusterIP": "10.96.3.4", "clusterIPs": ["10.96.3.4"],
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
    ));
    zone.service(&service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})));
    let pods = json!([
        endpoint("10.244.0.5", json!("db-0"), true),
        endpoint("10.244.0.6", Value::Null, true),
        endpoint("10.244.0.7", json!("db-2"), false)
    ]);
    zone.slice(&new(slice_value("db", pods)));
    zone.slice(&new(slice_value("web", json!([endpoint("10.244.0.9", Value::Null, true)]))));
    zone.service(&service("empty", json!({"clusterIP": "None"})));
    zone.service(&service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})));
    zone.service(&service("away", json!({"type": "ExternalName", "externalName": "example.com"})));
    zone.open();
    zone
}

/// Code and sorted records, as a person would write them.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    let query = Query::query(Name::from_str(name).expect("a name"), kind);
    match zone.answer(&query) {
        Answer::Elsewhere => "elsewhere".into(),
        Answer::Unknown => "not yet".into(),
        Answer::Alias { target, .. } => format!("alias {target}"),
        Answer::Here(here) => {
            assert_eq!(here.answers.is_empty(), !here.authorities.is_empty(), "an SOA record with nothing else");
            let mut records: Vec<String> = here.answers.iter().map(|record| record.data.to_string()).collect();
            records.sort();
            match (here.code, records.is_empty()) {
                (ResponseCode::NoError, true) => "nothing".into(),
                (ResponseCode::NoError, false) => records.join(", "),
                (code, _) => format!("{code:?}"),
            }
        }
    }
}

#[test]
fn names_answer_as_the_specification_says() {
    let zone = zone();
    let (a, aaaa, srv, ptr) = (RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR);
    let cases = [
        ("web.shop.svc.cluster.local.", a, "10.96.3.4"),
        ("WEB.Shop.svc.cluster.local.", a, "10.96.3.4"),
        ("web.shop.svc.cluster.local.", aaaa, "nothing"),
        ("_http._tcp.web.shop.svc.cluster.local.", srv, "0 100 80 web.shop.svc.cluster.local."),
        ("_dns._udp.web.shop.svc.cluster.local.", srv, "0 100 53 web.shop.svc.cluster.local."),
        ("_dns._tcp.web.shop.svc.cluster.local.", srv, "NXDomain"),
        (
            "web.shop.svc.cluster.local.",
            srv,
            "0 50 53 web.shop.svc.cluster.local., 0 50 80 web.shop.svc.cluster.local.",
        ),
        ("10-244-0-9.web.shop.svc.cluster.local.", a, "10.244.0.9"),
        ("db.shop.svc.cluster.local.", a, "10.244.0.5, 10.244.0.6"),
        ("db-0.db.shop.svc.cluster.local.", a, "10.244.0.5"),
        ("10-244-0-6.db.shop.svc.cluster.local.", a, "10.244.0.6"),
        ("db-2.db.shop.svc.cluster.local.", a, "NXDomain"),
        (
            "_http._tcp.db.shop.svc.cluster.local.",
            srv,
            "0 50 8080 10-244-0-6.db.shop.svc.cluster.local., 0 50 8080 db-0.db.shop.svc.cluster.local.",
        ),
        ("empty.shop.svc.cluster.local.", a, "NXDomain"),
        ("none.shop.svc.cluster.local.", a, "NXDomain"),
        ("web.other.svc.cluster.local.", a, "NXDomain"),
        ("shop.svc.cluster.local.", a, "nothing"),
        ("other.svc.cluster.local.", a, "NXDomain"),
        ("svc.cluster.local.", a, "nothing"),
        ("example.com.shop.svc.cluster.local.", a, "NXDomain"),
        ("10-244-0-77.shop.pod.cluster.local.", a, "10.244.0.77"),
        ("10-244-0-77.other.pod.cluster.local.", a, "NXDomain"),
        ("dns-version.cluster.local.", RecordType::TXT, "1.1.0"),
        ("cluster.local.", RecordType::NS, "ns.dns.cluster.local."),
        ("alias.shop.svc.cluster.local.", a, "alias web.shop.svc.cluster.local."),
        ("4.3.96.10.in-addr.arpa.", ptr, "web.shop.svc.cluster.local."),
        ("5.0.244.10.in-addr.arpa.", ptr, "db-0.db.shop.svc.cluster.local."),
        ("6.0.244.10.in-addr.arpa.", ptr, "10-244-0-6.db.shop.svc.cluster.local."),
        ("7.0.244.10.in-addr.arpa.", ptr, "elsewhere"),
        ("example.com.", a, "elsewhere"),
        ("local.", a, "elsewhere"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn what_goes_is_gone() {
    let mut zone = zone();
    let slice = new(slice_value("db", json!([endpoint("10.244.0.5", json!("db-0"), true)])));
    zone.slice(&slice);
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local.", RecordType::A), "10.244.0.5");
    assert_eq!(ask(&zone, "6.0.244.10.in-addr.arpa.", RecordType::PTR), "elsewhere");
    zone.slice(&replaced(&slice, None));
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local.", RecordType::A), "NXDomain");
    let web = service("web", json!({"clusterIP": "10.96.3.5", "ports": [{"port": 80}]}));
    zone.service(&web);
    assert_eq!(ask(&zone, "4.3.96.10.in-addr.arpa.", RecordType::PTR), "elsewhere");
    zone.service(&replaced(&web, None));
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local.", RecordType::A), "NXDomain");
}

#[test]
fn before_the_first_listing_nothing_is_denied() {
    let zone = Zone::new("cluster.local").expect("a domain");
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local.", RecordType::A), "not yet");
    assert_eq!(ask(&zone, "example.com.", RecordType::A), "elsewhere");
}
