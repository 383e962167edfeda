//! What every namespace has for its pods: an account, the API server's certificate, and tokens for those who ask.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::ControlPlane;

fn named(kind: &str, namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": namespace } })
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

fn token_secret(name: &str, account: &str) -> Value {
    let mut secret = named("Secret", "default", name);
    secret["type"] = "kubernetes.io/service-account-token".into();
    secret["metadata"]["annotations"] = json!({ "kubernetes.io/service-account.name": account });
    secret
}

#[tokio::test]
async fn a_pod_may_follow_its_namespace_at_once() {
    let plane = ControlPlane::start().await;
    for name in ["a", "b", "c"] {
        plane.create(namespace(name)).await;
        let mut pod = named("Pod", name, "pod");
        pod["spec"] = json!({ "containers": [{ "name": "c", "image": "i" }] });
        let pod = plane.create(pod).await;
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
    }
}

#[tokio::test]
async fn what_a_namespace_has_comes_back() {
    let plane = ControlPlane::start().await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    for name in ["default", "kube-node-lease"] {
        let account = plane.until(&named("ServiceAccount", name, "default"), |_| true).await;
        plane.delete(&account, &DeleteParams::default()).await;
        plane.until(&account, |again| uid(again) != uid(&account)).await;

        let ca = plane.server.pki().ca_pem();
        let published = plane.until(&named("ConfigMap", name, "kube-root-ca.crt"), |_| true).await;
        assert_eq!(published["data"], json!({ "ca.crt": ca }));
        let about = &published["metadata"]["annotations"]["kubernetes.io/description"];
        assert!(about.as_str().is_some_and(|text| text.starts_with("Contains a CA bundle")), "{about}");
        plane.patch(&published, json!({ "data": { "ca.crt": "another", "more": "x" } })).await;
        plane.until(&published, |now| now["data"] == json!({ "ca.crt": ca })).await;
        plane.delete(&published, &DeleteParams::default()).await;
        plane.until(&published, |again| uid(again) != uid(&published)).await;
    }
}

#[tokio::test]
async fn a_token_asked_for_by_a_secret_holds_as_long_as_that_and_its_account() {
    use base64::Engine;
    let plane = ControlPlane::start().await;
    let account = plane.create(named("ServiceAccount", "default", "robot")).await;
    let names = |object: &Value| object["data"].as_object().map_or(0, serde_json::Map::len);
    let decoded = |object: &Value, key: &str| {
        let text = object["data"][key].as_str().unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    let review = async |token: &str| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token },
        });
        plane.create(review).await["status"].clone()
    };

    let first = plane.create(token_secret("first", "robot")).await;
    let filled = plane.until(&first, |now| names(now) == 3).await;
    assert_eq!(decoded(&filled, "namespace"), "default");
    assert_eq!(decoded(&filled, "ca.crt"), plane.server.pki().ca_pem());
    let annotations = &filled["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/service-account.uid"], account["metadata"]["uid"]);
    let token = decoded(&filled, "token");
    let status = review(&token).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");

    plane.patch(&first, json!({ "data": { "token": null } })).await;
    plane.until(&first, |now| names(now) == 3).await;

    plane.patch(&account, json!({ "secrets": [{ "name": "first" }, { "name": "other" }] })).await;
    plane.delete(&first, &DeleteParams::default()).await;
    plane.until(&account, |now| now["secrets"] == json!([{ "name": "other" }])).await;
    assert_ne!(review(&token).await["authenticated"], true);

    let second = plane.create(token_secret("second", "robot")).await;
    plane.until(&second, |now| names(now) == 3).await;
    plane.delete(&account, &DeleteParams::default()).await;
    plane.until_gone(&second).await;
    let nobodys = plane.create(token_secret("third", "nobody")).await;
    plane.until_gone(&nobodys).await;
}
