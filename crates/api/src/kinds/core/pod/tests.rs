//! Tables of pods and what upstream says about them.

use serde_json::{Value, json};

use super::{POD, defaults};

/// A pod with one good container and, over it, `spec`; defaulted.
fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}});
    for (key, value) in spec.as_object().expect("a spec") {
        pod["spec"][key] = value.clone();
    }
    defaults::pod(&mut pod);
    pod
}

fn wrong(pod: &Value, old: Option<&Value>) -> Vec<String> {
    (POD.validate)(pod, old).iter().map(ToString::to_string).collect()
}

fn one_container(container: Value) -> Value {
    let mut whole = json!({"name": "a", "image": "nginx"});
    for (key, value) in container.as_object().expect("a container") {
        whole[key] = value.clone();
    }
    json!({"containers": [whole]})
}

#[test]
fn a_plain_pod_passes() {
    assert_eq!(wrong(&pod(json!({})), None), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let bad_name = format!("spec.containers[0].name: Invalid value: \"A\": {label}");
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({"containers": []}), vec!["spec.containers: Required value"]),
        (
            json!({"containers": [{}]}),
            vec!["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"],
        ),
        (one_container(json!({"name": "A"})), vec![&bad_name]),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            vec!["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            vec![
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            one_container(json!({"ports": [{"containerPort": 70000}]})),
            vec![
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            one_container(json!({"ports": [{"containerPort": 80, "protocol": "tcp"}]})),
            vec![
                "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            one_container(
                json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]}),
            ),
            vec!["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
        ),
        (
            one_container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            vec!["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            one_container(json!({"livenessProbe": {}})),
            vec!["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            one_container(json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}})),
            vec!["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
        ),
        (
            one_container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            one_container(json!({"imagePullPolicy": "Maybe"})),
            vec![
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (one_container(json!({"env": [{"name": ""}]})), vec!["spec.containers[0].env[0].name: Required value"]),
        (
            json!({"tolerations": [{"effect": "NoSchedule"}]}),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            vec!["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            vec!["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]}),
            vec![
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&pod(spec.clone()), None), expected, "{spec}");
    }
}

#[test]
fn little_of_a_pod_may_change() {
    let old = pod(json!({"activeDeadlineSeconds": 10}));
    let mut image = old.clone();
    image["spec"]["containers"][0]["image"] = "nginx:2".into();
    image["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    image["spec"]["activeDeadlineSeconds"] = 5.into();
    assert_eq!(wrong(&image, Some(&old)), Vec::<String>::new());

    let mut command = old.clone();
    command["spec"]["containers"][0]["command"] = json!(["x"]);
    let said = wrong(&command, Some(&old));
    assert!(
        said[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    );

    let mut more = old.clone();
    more["spec"]["activeDeadlineSeconds"] = 20.into();
    assert_eq!(
        wrong(&more, Some(&old)),
        ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]
    );

    let mut two = old.clone();
    let one = two["spec"]["containers"][0].clone();
    two["spec"]["containers"] = json!([one, one]);
    two["spec"]["containers"][1]["name"] = "b".into();
    assert_eq!(wrong(&two, Some(&old)), ["spec.containers: Forbidden: pod updates may not add or remove containers"]);
}

#[test]
fn a_new_pod_is_pending() {
    let mut object = pod(json!({}));
    (POD.prepare)(&mut object, None);
    assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

/// `kubectl debug`: what the subresource `ephemeralcontainers` may do, as upstream's table of
/// `ValidatePodEphemeralContainersUpdate` has it.
#[test]
fn ephemeral_containers_are_only_added() {
    let debugger = |name: &str| json!({"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "File"});
    let with = |name: &str, key: &str, value: Value| {
        let mut container = debugger(name);
        container[key] = value;
        container
    };
    let not =
        |key: &str| format!("spec.ephemeralContainers[0].{key}: Forbidden: cannot be set for an Ephemeral Container");
    let all = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\"";
    let cases = [
        (json!([]), json!([debugger("d")]), vec![]),
        (json!([debugger("d")]), json!([debugger("d")]), vec![]),
        // A patch keeps no order.
        (json!([debugger("d"), debugger("e")]), json!([debugger("e"), debugger("f"), debugger("d")]), vec![]),
        (json!([]), json!([with("d", "targetContainerName", json!("a"))]), vec![]),
        (json!([debugger("d")]), json!([]), vec![format!("{all} may not be removed\n")]),
        (
            json!([debugger("d")]),
            json!([with("d", "image", json!("debian"))]),
            vec![format!("{all} may not be changed\n- image: \"busybox\"\n+ image: \"debian\"\n")],
        ),
        (json!([]), json!([debugger("a")]), vec!["spec.ephemeralContainers[0].name: Duplicate value: \"a\"".into()]),
        (
            json!([]),
            json!([with("d", "targetContainerName", json!("x"))]),
            vec!["spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"".into()],
        ),
        (json!([]), json!([with("d", "resources", json!({}))]), vec![]),
        (json!([]), json!([with("d", "resources", json!({"limits": {"cpu": "1"}}))]), vec![not("resources")]),
        (json!([]), json!([with("d", "restartPolicy", json!("Always"))]), vec![not("restartPolicy")]),
        (json!([]), json!([with("d", "ports", json!([{"containerPort": 80, "protocol": "TCP"}]))]), vec![not("ports")]),
        (
            json!([]),
            json!([with("d", "livenessProbe", json!({"exec": {"command": ["true"]}}))]),
            vec![not("livenessProbe")],
        ),
        (
            json!([]),
            json!([with("d", "volumeMounts", json!([{"name": "v", "mountPath": "/v", "subPath": "x"}]))]),
            vec![not("volumeMounts[0].subPath")],
        ),
    ];
    let (_, part) = POD.parts.iter().find(|(name, _)| *name == "ephemeralcontainers").expect("the part");
    for (old, new, expected) in cases {
        let made =
            |added: &Value| pod(json!({"volumes": [{"name": "v", "emptyDir": {}}], "ephemeralContainers": added}));
        let old = made(&old);
        let mut asked = made(&new);
        asked["spec"]["nodeName"] = "elsewhere".into();
        asked["metadata"]["labels"] = json!({"a": "b"});
        let merged = (part.merge)(asked, &old);
        assert_eq!((&merged["spec"]["nodeName"], &merged["metadata"]), (&old["spec"]["nodeName"], &old["metadata"]));
        let got: Vec<String> = (part.validate)(&merged, &old).iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{new}");
    }
}
