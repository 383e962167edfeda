//! Tables of Services and what upstream says about them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{default, prepare, row, validation};

fn service(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "s"}, "spec": spec});
    default(&mut object);
    prepare(&mut object, None);
    object
}

fn wrong(object: &Value, old: Option<&Value>) -> Vec<String> {
    validation::validate(object, old).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_upstreams() {
    let object = service(json!({"selector": {"app": "a"}, "ports": [{"port": 80}]}));
    assert_eq!(
        object["spec"],
        json!({
            "selector": {"app": "a"}, "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(wrong(&object, None), Vec::<String>::new());
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let node_port = service(json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": "http"}]}));
    assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(node_port["spec"]["ports"][0]["targetPort"], "http");
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({}), &["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), &[]),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            json!({"ports": [{"port": 0, "targetPort": 1}]}),
            &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            json!({"type": "Other", "ports": [{"port": 80}]}),
            &[
                "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]}),
            &[
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        ),
        (
            json!({"loadBalancerClass": "a.b/c", "ports": [{"port": 80}]}),
            &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        (json!({"type": "ExternalName"}), &["spec.externalName: Required value"]),
        (
            json!({"clusterIP": "1.2.3", "ports": [{"port": 80}]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"type": "NodePort", "ports": [
                {"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30000},
            ]}),
            &["spec.ports[1].nodePort: Duplicate value: 30000"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&service(spec.clone()), None), expected, "{spec}");
    }
}

#[test]
fn what_was_given_is_kept() {
    let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
    old["spec"]["clusterIP"] = "10.96.0.9".into();
    old["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
    old["spec"]["ports"][0]["nodePort"] = 30001.into();

    let mut same = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    prepare(&mut same, Some(&old));
    assert_eq!(same["spec"]["clusterIP"], "10.96.0.9");
    assert_eq!(same["spec"]["ports"][0]["nodePort"], 30001);

    let mut inner = old.clone();
    inner["spec"]["type"] = "ClusterIP".into();
    default(&mut inner);
    prepare(&mut inner, Some(&old));
    assert_eq!(inner["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(wrong(&inner, Some(&old)), Vec::<String>::new());

    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = "10.96.0.10".into();
    moved["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
    assert_eq!(
        wrong(&moved, Some(&old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"]
    );
}

#[test]
fn rows_are_upstreams() {
    let cases = [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP"}]}),
            ["ClusterIP", "10.0.0.1", "<none>", "80/TCP"],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [
                {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"},
            ]}),
            ["NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53:30053/UDP"],
        ),
        (json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}), ["LoadBalancer", "10.0.0.1", "<pending>", "<none>"]),
        (json!({"type": "ExternalName", "externalName": "a.b"}), ["ExternalName", "<none>", "a.b", "<none>"]),
    ];
    for (spec, expected) in cases {
        let cells = row(&json!({"metadata": {"name": "s"}, "spec": spec}), Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1..5], expected);
    }
}
