//! Deployments, from their making to their history.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use tug_api::kinds::apps::REPLICA_SET;
use tug_api::kinds::core::{EVENT, POD};

use crate::support::{ControlPlane, Kubelet};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default", "annotations": { "kubernetes.io/change-cause": "why" } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            },
        },
    })
}

fn image(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } } })
}

fn condition(deployment: &Value, kind: &str) -> Value {
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    found.map_or(Value::Null, |c| json!([c["status"], c["reason"], c["message"]]))
}

/// All replicas are of the newest revision, which is this one, and available.
fn complete(replicas: u32, revision: &str) -> impl Fn(&Value) -> bool {
    move |deployment| {
        let status = &deployment["status"];
        ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].iter().all(|n| status[n] == replicas)
            && status["observedGeneration"] == deployment["metadata"]["generation"]
            && condition(deployment, "Progressing")[1] == "NewReplicaSetAvailable"
            && deployment["metadata"]["annotations"][REVISION] == revision
    }
}

fn image_of(set_or_pod: &Value) -> &Value {
    let spec = if set_or_pod["kind"] == "Pod" { &set_or_pod["spec"] } else { &set_or_pod["spec"]["template"]["spec"] };
    &spec["containers"][0]["image"]
}

async fn set_of(plane: &ControlPlane, image: &str) -> Value {
    plane.until_some(&REPLICA_SET, "default", |set| image_of(set) == image).await
}

fn annotations(set: &Value) -> Value {
    let names = ["revision", "revision-history", "desired-replicas", "max-replicas"];
    json!(names.map(|name| set["metadata"]["annotations"][format!("deployment.kubernetes.io/{name}")].clone()))
}

#[tokio::test]
async fn a_deployment_comes_up_and_says_so() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let web = plane.create(deployment(3, "one")).await;
    let done = plane.until(&web, complete(3, "1")).await;
    let set = set_of(&plane, "one").await;
    let (name, hash) =
        (set["metadata"]["name"].as_str().expect("a name"), &set["metadata"]["labels"]["pod-template-hash"]);
    assert_eq!(name, format!("web-{}", hash.as_str().expect("a hash")));
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({ "app": "web", "pod-template-hash": hash }));
    assert_eq!(annotations(&set), json!(["1", null, "3", "4"]));
    assert_eq!(set["metadata"]["annotations"]["kubernetes.io/change-cause"], "why");
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], web["metadata"]["uid"]);
    let available = json!(["True", "MinimumReplicasAvailable", "Deployment has minimum availability."]);
    assert_eq!(condition(&done, "Available"), available);
    let progressed = format!("ReplicaSet \"{name}\" has successfully progressed.");
    assert_eq!(condition(&done, "Progressing"), json!(["True", "NewReplicaSetAvailable", progressed]));
    let event = plane.until_some(&EVENT, "default", |event| event["involvedObject"]["kind"] == "Deployment").await;
    assert_eq!(event["message"], format!("Scaled up replica set {name} from 0 to 3"));
    assert_eq!(
        (&event["reason"], &event["source"]["component"]),
        (&json!("ScalingReplicaSet"), &json!("deployment-controller"))
    );

    plane.patch(&web, json!({ "spec": { "replicas": 5 } })).await;
    plane.until(&web, complete(5, "1")).await;
    let scaled = format!("Scaled up replica set {name} from 3 to 5");
    plane.until_some(&EVENT, "default", |event| event["message"] == scaled.as_str()).await;
    assert_eq!(annotations(&plane.get(&set).await.expect("the set")), json!(["1", null, "5", "7"]));
}

#[tokio::test]
async fn an_update_rolls_within_its_bounds_and_back() {
    let plane = ControlPlane::start().await;
    let kubelet = Kubelet::start(&plane);
    let mut wanted = deployment(10, "one");
    wanted["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 3, "maxUnavailable": 2 } });
    let web = plane.create(wanted).await;
    plane.until(&web, complete(10, "1")).await;
    kubelet.expect_between(8, 13);

    plane.patch(&web, image("two")).await;
    plane.until(&web, complete(10, "2")).await;
    let (one, two) = (set_of(&plane, "one").await, set_of(&plane, "two").await);
    assert_eq!((&one["spec"]["replicas"], &two["spec"]["replicas"]), (&json!(0), &json!(10)));

    // As `kubectl rollout undo` does: the old template, without what is empty.
    plane.patch(&web, image("one")).await;
    plane.until(&web, complete(10, "3")).await;
    assert_eq!(plane.list(&REPLICA_SET, "default").await.len(), 2, "the old set serves again");
    assert_eq!(annotations(&set_of(&plane, "one").await), json!(["3", "1", "10", "13"]));
    kubelet.assert_kept();
}

#[tokio::test]
async fn history_is_kept_up_to_its_limit() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let mut wanted = deployment(1, "1");
    wanted["spec"]["revisionHistoryLimit"] = json!(1);
    let web = plane.create(wanted).await;
    plane.until(&web, complete(1, "1")).await;
    for revision in ["2", "3"] {
        plane.patch(&web, image(revision)).await;
        plane.until(&web, complete(1, revision)).await;
    }
    let left = plane.until_many(&REPLICA_SET, "default", 2, |_| true).await;
    let mut images: Vec<_> = left.iter().map(|set| image_of(set).to_string()).collect();
    images.sort();
    assert_eq!(images, ["\"2\"", "\"3\""]);
}

#[tokio::test]
async fn recreate_waits_for_the_last_old_pod() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let mut wanted = deployment(2, "one");
    wanted["spec"]["strategy"] = json!({ "type": "Recreate" });
    // Bound to a node, whose kubelet takes its time.
    wanted["spec"]["template"]["spec"]["nodeName"] = json!("n");
    let web = plane.create(wanted).await;
    plane.until(&web, complete(2, "1")).await;
    plane.patch(&web, image("two")).await;
    let going = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    let held = plane.until_many(&POD, "default", 2, going).await;
    for (n, pod) in held.iter().enumerate() {
        plane.until(&web, |web| web["status"]["replicas"].as_i64().unwrap_or(0) == 0).await;
        assert_eq!(plane.list(&POD, "default").await.len(), 2 - n, "no new pod yet");
        plane.delete(pod, &DeleteParams::default().grace_period(0)).await;
    }
    plane.until(&web, complete(2, "2")).await;
    assert!(plane.list(&POD, "default").await.iter().all(|pod| image_of(pod) == "two"));
}

#[tokio::test]
async fn a_paused_deployment_keeps_its_template_but_not_its_size() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let web = plane.create(deployment(1, "one")).await;
    plane.until(&web, complete(1, "1")).await;
    let mut pause = image("two");
    pause["spec"]["paused"] = json!(true);
    pause["spec"]["replicas"] = json!(2);
    plane.patch(&web, pause).await;
    let paused = json!(["Unknown", "DeploymentPaused", "Deployment is paused"]);
    plane.until(&web, |web| condition(web, "Progressing") == paused && web["status"]["availableReplicas"] == 2).await;
    assert_eq!(plane.list(&REPLICA_SET, "default").await.len(), 1);
    plane.patch(&web, json!({ "spec": { "paused": false } })).await;
    plane.until(&web, complete(2, "2")).await;
}

#[tokio::test]
async fn a_rollout_that_gets_nowhere_is_late() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let mut wanted = deployment(1, "broken");
    wanted["spec"]["progressDeadlineSeconds"] = json!(1);
    let web = plane.create(wanted).await;
    let late = plane.until(&web, |web| condition(web, "Progressing")[0] == "False").await;
    let name = set_of(&plane, "broken").await["metadata"]["name"].as_str().expect("a name").to_owned();
    let expected =
        json!(["False", "ProgressDeadlineExceeded", format!("ReplicaSet \"{name}\" has timed out progressing.")]);
    assert_eq!(condition(&late, "Progressing"), expected);
    let missing = json!(["False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."]);
    assert_eq!(condition(&late, "Available"), missing);
    plane.patch(&web, image("mended")).await;
    plane.until(&web, complete(1, "2")).await;
}

#[tokio::test]
async fn a_refused_pod_is_the_deployments_failure() {
    let plane = ControlPlane::start().await;
    let mut refused = deployment(1, "one");
    refused["spec"]["template"]["spec"]["serviceAccountName"] = json!("absent");
    let web = plane.create(refused).await;
    let failed = plane.until(&web, |web| !condition(web, "ReplicaFailure").is_null()).await;
    let condition = condition(&failed, "ReplicaFailure");
    assert_eq!((&condition[0], &condition[1]), (&json!("True"), &json!("FailedCreate")));
    let message = condition[2].as_str().expect("text");
    assert!(message.ends_with("serviceaccount \"absent\" not found"), "{message}");
}

#[tokio::test]
async fn orphaned_sets_are_adopted() {
    let plane = ControlPlane::start().await;
    let _kubelet = Kubelet::start(&plane);
    let web = plane.create(deployment(2, "one")).await;
    plane.until(&web, complete(2, "1")).await;
    let set = set_of(&plane, "one").await;
    plane
        .delete(
            &web,
            &DeleteParams { propagation_policy: Some(kube::api::PropagationPolicy::Orphan), ..DeleteParams::default() },
        )
        .await;
    plane.until_gone(&web).await;
    plane.until(&set, |set| set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)).await;

    // A set of that name, but of another template, is in the way of the next one.
    plane.patch(&set, image("other")).await;
    let web = plane.create(deployment(2, "one")).await;
    plane.until(&set, |set| set["metadata"]["ownerReferences"][0]["uid"] == web["metadata"]["uid"]).await;
    let done = plane.until(&web, complete(2, "2")).await;
    assert_eq!(done["status"]["collisionCount"], 1);
    let new = set_of(&plane, "one").await;
    assert_ne!(new["metadata"]["name"], set["metadata"]["name"]);
    assert_eq!(plane.get(&set).await.expect("kept")["spec"]["replicas"], 0);
}
