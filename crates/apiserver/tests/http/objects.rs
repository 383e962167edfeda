//! Objects made, changed and deleted over TLS, as any client would.

use crate::support::{self, Api};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn config_map(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "a": "b" } })
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 80 }] }] },
            },
        },
    })
}

async fn pod(api: &Api, name: &str) -> Value {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    if !api.get(&format!("{accounts}/default")).await.code.is_success() {
        api.post(accounts, &json!({ "metadata": { "name": "default" } })).await.ok();
    }
    let body = json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    api.post(PODS, &body).await.ok()
}

#[tokio::test]
async fn objects_live_and_die() {
    let api = Api::start().await;
    let made = api.post(CONFIG_MAPS, &config_map("one")).await.ok();
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    let path = format!("{CONFIG_MAPS}/one");
    assert_eq!(api.get(&path).await.ok(), made);
    let again = api.post(CONFIG_MAPS, &config_map("one")).await;
    assert_eq!(again.failed(), (409, "AlreadyExists", "configmaps \"one\" already exists"));

    // A change of nothing writes nothing.
    assert_eq!(api.put(&path, &made).await.ok(), made);
    let mut changed = made.clone();
    changed["data"]["a"] = "c".into();
    let changed = api.put(&path, &changed).await.ok();
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stale = api.put(&path, &made).await;
    let words = "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!(stale.failed(), (409, "Conflict", words));
    let mut unconditional = made.clone();
    unconditional["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    assert_eq!(api.put(&path, &unconditional).await.ok()["data"]["a"], "b");

    let wrong = api.request(reqwest::Method::DELETE, &path).json(&json!({ "preconditions": { "uid": "x" } }));
    let wrong = support::answer(wrong).await;
    assert_eq!((wrong.failed().0, wrong.failed().1), (409, "Conflict"));
    let gone = api.delete(&path).await.ok();
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(api.get(&path).await.failed(), (404, "NotFound", "configmaps \"one\" not found"));
    assert_eq!(api.put(&path, &made).await.code, 404);
}

#[tokio::test]
async fn names_are_made_up_and_dry_runs_store_nothing() {
    let api = Api::start().await;
    let made = api.post(CONFIG_MAPS, &json!({ "metadata": { "generateName": "x-" } })).await.ok();
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let dry = api.post(&path, &config_map("dry")).await.ok();
    assert!(dry["metadata"]["uid"].is_string() && dry["metadata"]["resourceVersion"].is_null());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/dry")).await.code, 404);
    api.request(reqwest::Method::DELETE, &format!("{CONFIG_MAPS}/{name}?dryRun=All")).send().await.expect("an answer");
    api.get(&format!("{CONFIG_MAPS}/{name}")).await.ok();
}

#[tokio::test]
async fn generation_counts_specs_and_status_is_apart() {
    let api = Api::start().await;
    let mut body = deployment("web");
    body["status"] = json!({ "replicas": 7 });
    let made = api.post(DEPLOYMENTS, &body).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["status"]["replicas"].is_null());
    let path = format!("{DEPLOYMENTS}/web");
    let patch = json!({ "metadata": { "labels": { "a": "b" } }, "status": { "replicas": 5 } });
    let labelled = api.patch(&path, "merge", &patch).await.ok();
    assert_eq!((&labelled["metadata"]["generation"], &labelled["status"]["replicas"]), (&json!(1), &Value::Null));
    let patch = json!({ "spec": { "replicas": 9 }, "status": { "replicas": 3 } });
    let status = api.patch(&format!("{path}/status"), "merge", &patch).await.ok();
    let seen = (&status["metadata"]["generation"], &status["spec"]["replicas"], &status["status"]["replicas"]);
    assert_eq!(seen, (&json!(1), &json!(1), &json!(3)));

    let scale = api.get(&format!("{path}/scale")).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"], json!({ "replicas": 3, "selector": "app=web" }));
    let scaled = api.patch(&format!("{path}/scale"), "merge", &json!({ "spec": { "replicas": 4 } })).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let object = api.get(&path).await.ok();
    assert_eq!((&object["metadata"]["generation"], &object["spec"]["replicas"]), (&json!(2), &json!(4)));
    let refused = api.patch(&format!("{path}/scale"), "merge", &json!({ "spec": { "replicas": -1 } })).await;
    assert_eq!((refused.failed().0, refused.failed().1), (422, "Invalid"));
}

#[tokio::test]
async fn patches_change_what_they_name() {
    let api = Api::start().await;
    api.post(DEPLOYMENTS, &deployment("web")).await.ok();
    let path = format!("{DEPLOYMENTS}/web");
    let containers = |containers: Value| json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    let sidecar = containers(json!([{ "name": "d", "image": "j" }]));
    let merged = api.patch(&path, "strategic-merge", &sidecar).await.ok();
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
        list.iter().map(|c| c["name"].as_str().expect("a name").to_owned()).collect()
    };
    let mut both = names(&merged);
    both.sort();
    assert_eq!(both, ["c", "d"]);
    let removed = containers(json!([{ "name": "d", "$patch": "delete" }]));
    assert_eq!(names(&api.patch(&path, "strategic-merge", &removed).await.ok()), ["c"]);
    let tested = json!([{ "op": "test", "path": "/spec/replicas", "value": 5 }]);
    let refused = api.patch(&path, "json", &tested).await;
    let words = "the server rejected our request due to an error in our request";
    assert_eq!(refused.failed(), (422, "Invalid", words));
    let replaced = json!([{ "op": "replace", "path": "/spec/replicas", "value": 5 }]);
    assert_eq!(api.patch(&path, "json", &replaced).await.ok()["spec"]["replicas"], 5);
    let stale = json!({ "metadata": { "resourceVersion": "1" }, "spec": { "replicas": 6 } });
    assert_eq!(api.patch(&path, "merge", &stale).await.failed().1, "Conflict");
}

/// Twenty at once, each adding its own label without a resourceVersion: none is lost.
#[tokio::test]
async fn patches_race_without_losing_any() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &config_map("hot")).await.ok();
    let path = format!("{CONFIG_MAPS}/hot");
    let patches = (0..10).map(|n| {
        let patch = json!({ "data": { format!("k{n}"): "v" } });
        let (api, path) = (&api, &path);
        async move { api.patch(path, "merge", &patch).await.ok() }
    });
    futures::future::join_all(patches).await;
    assert_eq!(api.get(&path).await.ok()["data"].as_object().expect("data").len(), 11);
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    let api = Api::start().await;
    let mut body = config_map("held");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(CONFIG_MAPS, &body).await.ok();
    let path = format!("{CONFIG_MAPS}/held");
    let going = api.delete(&path).await.ok();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = api.delete(&path).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], going["metadata"]["resourceVersion"]);
    let finalizers = json!({ "metadata": { "finalizers": ["example.com/hold", "example.com/new"] } });
    let more = api.patch(&path, "merge", &finalizers);
    assert_eq!(more.await.failed().1, "Invalid");
    api.patch(&path, "merge", &json!({ "metadata": { "finalizers": null } })).await.ok();
    assert_eq!(api.get(&path).await.code, 404);

    api.post(CONFIG_MAPS, &config_map("owner")).await.ok();
    let path = format!("{CONFIG_MAPS}/owner");
    let going = api.delete(&format!("{path}?propagationPolicy=Foreground")).await.ok();
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn pods_are_bound_and_given_time() {
    let api = Api::start().await;
    let made = pod(&api, "p").await;
    assert_eq!((&made["status"]["phase"], &made["status"]["qosClass"]), (&json!("Pending"), &json!("BestEffort")));
    let path = format!("{PODS}/p");
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    let bound = api.post(&format!("{path}/binding"), &binding).await;
    assert_eq!((bound.code.as_u16(), &bound.body["status"]), (201, &json!("Success")));
    let twice = api.post(&format!("{path}/binding"), &binding).await;
    let words = "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\"";
    assert_eq!(twice.failed(), (409, "Conflict", words));
    let read = api.get(&path).await.ok();
    assert_eq!(
        (&read["spec"]["nodeName"], &read["status"]["conditions"][0]["type"]),
        (&json!("n"), &json!("PodScheduled"))
    );
    let going = api.delete(&format!("{path}?gracePeriodSeconds=7")).await.ok();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
    api.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(api.get(&path).await.code, 404);

    pod(&api, "q").await;
    let eviction = json!({ "metadata": { "name": "q" } });
    assert_eq!(api.post(&format!("{PODS}/q/eviction"), &eviction).await.code, 201);
    assert_eq!(api.get(&format!("{PODS}/q")).await.code, 404);
}

#[tokio::test]
async fn services_are_given_addresses_and_ports() {
    let api = Api::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let ports = json!([{ "port": 80 }]);
    let made = api.post(services, &service("a", json!({ "ports": ports, "selector": { "a": "b" } }))).await.ok();
    let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10."), "{address}");
    assert_eq!(made["spec"]["clusterIPs"], json!([address]));
    assert_eq!(
        (&made["spec"]["ipFamilies"], &made["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let taken = api.post(services, &service("b", json!({ "ports": ports, "clusterIP": address }))).await;
    assert!(taken.failed().2.contains("provided IP is already allocated"), "{}", taken.body);
    let outside = api.post(services, &service("b", json!({ "ports": ports, "clusterIP": "192.0.2.1" }))).await;
    assert!(outside.failed().2.contains("the provided network does not match the current range"), "{}", outside.body);
    let headless = service("h", json!({ "ports": ports, "clusterIP": "None", "selector": { "a": "b" } }));
    assert_eq!(api.post(services, &headless).await.ok()["spec"]["clusterIPs"], json!(["None"]));

    let node = service("n", json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] }));
    assert_eq!(api.post(services, &node).await.ok()["spec"]["ports"][0]["nodePort"], 30080);
    let again = service("m", json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] }));
    let refused = api.post(services, &again).await;
    let words =
        "Service \"m\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    assert_eq!(refused.failed(), (422, "Invalid", words));
    // The address stays, the port goes with the type that needed it.
    let path = format!("{services}/n");
    let before = api.get(&path).await.ok();
    let after = api.patch(&path, "merge", &json!({ "spec": { "type": "ClusterIP" } })).await.ok();
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
    assert!(after["spec"]["ports"][0]["nodePort"].is_null());
    api.post(services, &again).await.ok();

    let many = (0..30).map(|n| {
        let (api, body) = (&api, service(&format!("s{n}"), json!({ "type": "NodePort", "ports": [{ "port": 80 }] })));
        async move { api.post(services, &body).await.ok() }
    });
    let mut seen = std::collections::HashSet::new();
    for made in futures::future::join_all(many).await {
        assert!(seen.insert(made["spec"]["clusterIP"].clone()));
        assert!(seen.insert(made["spec"]["ports"][0]["nodePort"].clone()));
    }
}

#[tokio::test]
async fn namespaces_end_when_finalized() {
    let api = Api::start().await;
    let made = api.post("/api/v1/namespaces", &json!({ "metadata": { "name": "n" } })).await.ok();
    assert_eq!((&made["status"]["phase"], &made["spec"]["finalizers"]), (&json!("Active"), &json!(["kubernetes"])));
    let mut going = api.delete("/api/v1/namespaces/n").await.ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = api.post("/api/v1/namespaces/n/configmaps", &config_map("late")).await;
    assert_eq!((refused.failed().0, refused.failed().1), (403, "Forbidden"));
    going["spec"]["finalizers"] = json!([]);
    api.put("/api/v1/namespaces/n/finalize", &going).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/n").await.code, 404);
}

#[tokio::test]
async fn unknown_fields_are_told_as_asked() {
    let api = Api::start().await;
    let mut body = deployment("web");
    body["spec"]["foo"] = 1.into();
    let strict = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &body).await;
    let words = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\"";
    assert_eq!(strict.failed(), (400, "BadRequest", words));
    let warned = api.post(DEPLOYMENTS, &body).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"spec.foo\\\"\""]);
    assert!(warned.ok()["spec"]["foo"].is_null());
    body["metadata"]["name"] = "quiet".into();
    let ignored = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &body).await;
    assert!(ignored.warnings.is_empty());
    ignored.ok();
    let job = json!({
        "metadata": { "name": "j" },
        "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }] } } },
    });
    let stored = api.post("/apis/batch/v1/namespaces/default/jobs", &job).await;
    let says = "299 - \"Job of batch is stored, but this version of Tug doesn't act on it yet\"";
    assert_eq!(stored.warnings, [says]);
    stored.ok();
    let mut applied = job.clone();
    applied["apiVersion"] = "batch/v1".into();
    applied["kind"] = "Job".into();
    applied["metadata"]["name"] = "applied".into();
    let path = "/apis/batch/v1/namespaces/default/jobs/applied?fieldManager=me";
    let apply = || {
        let request = api.request(reqwest::Method::PATCH, path).header("content-type", "application/apply-patch+yaml");
        support::answer(request.body(applied.to_string()))
    };
    let made = apply().await;
    assert_eq!((made.code.as_u16(), &made.warnings[..]), (201, &[says.to_owned()][..]));
    let again = apply().await;
    assert_eq!((again.code.as_u16(), again.warnings.len()), (200, 0), "it says so once, when it is made");
}

#[tokio::test]
async fn containers_are_added_to_a_pod_by_their_own_subresource() {
    let api = Api::start().await;
    let made = pod(&api, "looked-into").await;
    let path = format!("{PODS}/looked-into/ephemeralcontainers");
    let added = |image: &str| json!({ "spec": { "ephemeralContainers": [{ "name": "d", "image": image }] } });
    let strategic = "strategic-merge";
    // What else the patch says is not this subresource's.
    let mut patch = added("busybox");
    patch["metadata"] = json!({ "labels": { "a": "b" } });
    patch["spec"]["nodeName"] = "n".into();
    let changed = api.patch(&path, strategic, &patch).await.ok();
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["terminationMessagePath"], "/dev/termination-log");
    assert_eq!((&changed["spec"]["nodeName"], &changed["metadata"]["labels"]), (&Value::Null, &Value::Null));
    assert_eq!((&made["metadata"]["generation"], &changed["metadata"]["generation"]), (&json!(1), &json!(2)));
    assert_eq!(api.get(&path).await.ok(), changed);
    let refused = api.patch(&path, strategic, &added("debian")).await;
    assert_eq!((refused.failed().0, refused.failed().1), (422, "Invalid"));
    let mut without = changed.clone();
    without["spec"].as_object_mut().expect("a spec").remove("ephemeralContainers");
    let refused = api.put(&path, &without).await;
    let words = "Pod \"looked-into\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n";
    assert_eq!(refused.failed(), (422, "Invalid", words));
}
