//! What is refused to those who show no credentials: everything that discovery names, but for what upstream shows to all.

use reqwest::{Client, Method};
use serde_json::Value;

use crate::support::Api;

/// Of the role `system:public-info-viewer`, which is bound to everybody.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

async fn code(client: &Client, method: Method, url: &str) -> u16 {
    let request = client.request(method, url).header("content-type", "application/json").body("{}");
    request.send().await.expect("an answer").status().as_u16()
}

/// Every path of every kind with each of its methods.
async fn endpoints(api: &Api) -> Vec<(Method, String)> {
    let mut found = Vec::new();
    let index = api.get("/").await.ok();
    let paths: Vec<&str> = index["paths"].as_array().expect("paths").iter().filter_map(Value::as_str).collect();
    for path in &paths {
        found.push((Method::GET, (*path).to_owned()));
        let kinds = api.get(path).await.body;
        for kind in kinds["resources"].as_array().into_iter().flatten() {
            let (plural, subresource) = {
                let name = kind["name"].as_str().expect("a name");
                name.split_once('/').unwrap_or((name, ""))
            };
            let namespace = if kind["namespaced"] == true { "/namespaces/default" } else { "" };
            let collection = format!("{path}{namespace}/{plural}");
            let object = format!("{collection}/x/{subresource}");
            for verb in kind["verbs"].as_array().expect("verbs").iter().filter_map(Value::as_str) {
                found.push(match verb {
                    "create" if subresource.is_empty() => (Method::POST, collection.clone()),
                    "create" => (Method::POST, object.clone()),
                    "delete" => (Method::DELETE, object.clone()),
                    "deletecollection" => (Method::DELETE, collection.clone()),
                    "get" => (Method::GET, object.clone()),
                    "list" => (Method::GET, collection.clone()),
                    "patch" => (Method::PATCH, object.clone()),
                    "update" => (Method::PUT, object.clone()),
                    "watch" => (Method::GET, format!("{collection}?watch=true")),
                    other => panic!("{other} of {object}"),
                });
            }
        }
    }
    found
}

#[tokio::test]
async fn nothing_is_told_or_taken_without_credentials() {
    let api = Api::start().await;
    let nobody = api.nobody();
    let endpoints = endpoints(&api).await;
    assert!(endpoints.len() > 500, "{}", endpoints.len());
    for (method, path) in endpoints {
        let expected = if PUBLIC.contains(&path.as_str()) { 200 } else { 403 };
        let code = code(&nobody, method.clone(), &format!("{}{path}", api.address)).await;
        assert_eq!(code, expected, "{method} {path}");
    }
    for path in ["/readyz/etcd", "/metrics", "/openapi/v3/api/v1", "/api/v1/namespaces/default/pods/x/exec?command=ls"]
    {
        assert_eq!(code(&nobody, Method::GET, &format!("{}{path}", api.address)).await, 403, "{path}");
    }
}

#[tokio::test]
async fn credentials_that_do_not_hold_are_worse_than_none() {
    let api = Api::start().await;
    for path in ["/version", "/api/v1/nodes"] {
        for header in ["Bearer nonsense", "Bearer a.b.c"] {
            let request = api.nobody().get(format!("{}{path}", api.address)).header("authorization", header);
            assert_eq!(request.send().await.expect("an answer").status(), 401, "{path} {header}");
        }
    }
}
