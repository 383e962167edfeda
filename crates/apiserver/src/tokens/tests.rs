use std::sync::Arc;

use super::*;
use crate::auth::fake::{Registry, access, namespace, pod, service_account};

fn registry() -> Arc<Registry> {
    Registry::with(&[
        namespace("ns"),
        service_account("ns", "robot"),
        service_account("ns", "other"),
        pod("ns", "p", json!({"serviceAccountName": "robot", "nodeName": "n1"})),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
    ])
}

fn account(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

#[test]
fn a_pods_token_says_what_upstreams_says() {
    let registry = registry();
    let access = access(&registry);
    let asked = json!({"spec": {
        "expirationSeconds": 3607,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"},
    }});
    let answer = access.issuer.request(&*registry, &account("robot"), asked).expect("a token");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let token = answer["status"]["token"].as_str().expect("a token");
    let claims = claims(token);
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["sub"], "system:serviceaccount:ns:robot");
    let bound = &claims["kubernetes.io"];
    assert_eq!(bound["namespace"], "ns");
    assert_eq!(bound["serviceaccount"], json!({"name": "robot", "uid": "uid-2"}));
    assert_eq!(bound["pod"], json!({"name": "p", "uid": "uid-4"}));
    assert_eq!(bound["node"], json!({"name": "n1", "uid": "uid-5"}));
    // A year, for clients that never read their token again; the kubelet renews by the time in `status`.
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), EXTENDED_LIFE);
    assert_eq!(bound["warnafter"].as_i64().expect("warnafter") - claims["iat"].as_i64().expect("iat"), POD_LIFE);

    let (user, audiences) = access.issuer.authenticate(&*registry, token, &[]).expect("it holds");
    assert_eq!(audiences, [ISSUER]);
    assert_eq!(user.name, "system:serviceaccount:ns:robot");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
}

#[test]
fn requests_that_do_not_hold_are_refused() {
    let registry = registry();
    let access = access(&registry);
    let bound = |reference: Value| json!({"spec": {"boundObjectRef": reference}});
    let cases = [
        ("nobody", json!({}), 404, "serviceaccounts \"nobody\" not found"),
        ("robot", json!({"spec": {"expirationSeconds": 599}}), 422, "may not specify a duration less than 10 minutes"),
        (
            "robot",
            json!({"spec": {"expirationSeconds": 1u64 << 33}}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        ("robot", bound(json!({"kind": "Pod", "apiVersion": "v1", "name": "q"})), 404, "pods \"q\" not found"),
        (
            "robot",
            bound(json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "x"})),
            409,
            "does not match the UID in record",
        ),
        (
            "other",
            bound(json!({"kind": "Pod", "apiVersion": "v1", "name": "p"})),
            400,
            "to pod running with different serviceaccount name",
        ),
        ("robot", bound(json!({"kind": "ConfigMap", "apiVersion": "v1", "name": "p"})), 400, "Kind=ConfigMap"),
        ("robot", json!({"metadata": {"name": "x"}}), 400, "must match the service account name"),
    ];
    for (name, body, code, message) in cases {
        let status = access.issuer.request(&*registry, &account(name), body.clone()).expect_err(message);
        assert_eq!(status.code, code, "{body}: {status}");
        assert!(status.message.contains(message), "{body}: {status}");
    }
}

#[test]
fn forged_expired_and_orphaned_tokens_are_refused() {
    let registry = registry();
    let access = access(&registry);
    let elsewhere = crate::auth::fake::access(&registry);
    let issuer = &access.issuer;
    let answer = issuer.request(
        &*registry,
        &account("robot"),
        json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}}),
    );
    let answer = answer.expect("a token");
    let good = answer["status"]["token"].as_str().expect("a token");
    let parts: Vec<&str> = good.split('.').collect();
    let held: Claims = serde_json::from_value(claims(good)).expect("claims");
    let resigned = |change: &dyn Fn(&mut Claims)| {
        let mut claims = held.clone();
        change(&mut claims);
        issuer.sign(&claims).expect("a token")
    };
    let swapped = {
        let mut claims = claims(good);
        claims["sub"] = "system:serviceaccount:kube-system:admin".into();
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
    };
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), parts[1]);
    let symmetric = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &held,
        &EncodingKey::from_secret(access.pki.token_key().public_key_pem().as_bytes()),
    );
    let cases = [
        ("other claims under the same signature", swapped),
        ("no signature", unsigned),
        ("signed with the public key as a secret", symmetric.expect("a token")),
        ("another cluster's key", elsewhere.issuer.sign(&held).expect("a token")),
        ("expired", resigned(&|claims| claims.exp = claims.iat - CLOCK_LEEWAY - 1)),
        ("not valid yet", resigned(&|claims| claims.nbf += 2 * CLOCK_LEEWAY)),
        ("another issuer", resigned(&|claims| claims.iss = "https://elsewhere".into())),
        ("another audience", resigned(&|claims| claims.aud = Audiences::One("vault".into()))),
        ("another account's uid", resigned(&|claims| claims.kubernetes.serviceaccount.uid = "x".into())),
        ("a subject that isn't the account", resigned(&|claims| claims.sub = "system:serviceaccount:ns:other".into())),
    ];
    issuer.authenticate(&*registry, good, &[]).expect("untouched it holds");
    for (what, token) in &cases {
        issuer.authenticate(&*registry, token, &[]).expect_err(what);
    }
    let asked = ["vault".to_string(), ISSUER.to_string()];
    let (_, audiences) = issuer.authenticate(&*registry, good, &asked).expect("one audience is enough");
    assert_eq!(audiences, [ISSUER]);

    registry.remove(&core::POD, &ObjectKey::new("ns", "p"));
    issuer.authenticate(&*registry, good, &[]).expect_err("its pod is gone");
    registry.put(pod("ns", "p", json!({"serviceAccountName": "robot"})));
    issuer.authenticate(&*registry, good, &[]).expect_err("a pod of that name isn't that pod");
}

#[test]
fn a_token_dies_a_minute_after_its_pods_deletion_time() {
    let registry = registry();
    let access = access(&registry);
    let asked = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}});
    let answer = access.issuer.request(&*registry, &account("robot"), asked).expect("a token");
    let token = answer["status"]["token"].as_str().expect("a token");
    for (seconds_ago, holds) in [(-30, true), (30, true), (120, false)] {
        let mut dying = pod("ns", "p", json!({"serviceAccountName": "robot"}));
        dying["metadata"]["uid"] = "uid-4".into();
        let at = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).expect("a time");
        dying["metadata"]["deletionTimestamp"] = at.to_string().into();
        registry.put(dying);
        assert_eq!(access.issuer.authenticate(&*registry, token, &[]).is_ok(), holds, "{seconds_ago} s ago");
    }
}
