//! Lists in pages and shapes, and watches that miss and repeat nothing.

use crate::support::{self, Api};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(api: &Api, name: &str, color: &str) -> Value {
    let body = json!({ "metadata": { "name": name, "labels": { "color": color } } });
    api.post(CONFIG_MAPS, &body).await.ok()
}

/// A watch, read line by line.
struct Events {
    response: Response,
    buffer: Vec<u8>,
}

impl Events {
    async fn of(api: &Api, path: &str) -> Self {
        let response = api.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self { response, buffer: Vec::new() }
    }

    /// Type and object of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).expect("an event");
                return Some((event["type"].as_str().expect("a type").to_owned(), event["object"].take()));
            }
            self.buffer.extend(self.response.chunk().await.expect("a chunk")?);
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let (found, object) = self.next().await.expect("an event");
        assert_eq!((found.as_str(), object["metadata"]["name"].as_str()), (kind, Some(name)), "{object}");
        object
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("items").iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        make(&api, name, "red").await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    // What happens between the pages isn't seen in them.
    api.delete(&format!("{CONFIG_MAPS}/d")).await.ok();
    make(&api, "cc", "red").await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!((names(&second), &second["metadata"]["remainingItemCount"]), (vec!["c", "d"], &json!(1)));
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().expect("a token");
    let third = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!((names(&third), &third["metadata"]["continue"]), (vec!["e"], &Value::Null));
    let at = first["metadata"]["resourceVersion"].as_str().expect("a revision");
    let then = api.get(&format!("{CONFIG_MAPS}?resourceVersion={at}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(names(&then), ["a", "b", "c", "d", "e"]);
    let broken = api.get(&format!("{CONFIG_MAPS}?continue=abc")).await;
    assert_eq!((broken.failed().0, broken.failed().1), (400, "BadRequest"));
}

#[tokio::test]
async fn namespaces_with_like_names_page_in_one_order() {
    let api = Api::start().await;
    for namespace in ["a", "a-b"] {
        api.post("/api/v1/namespaces", &json!({ "metadata": { "name": namespace } })).await.ok();
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        api.post(&path, &json!({ "metadata": { "name": "x" } })).await.ok();
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page =
            api.get(&format!("/api/v1/configmaps?limit=1&fieldSelector=metadata.name=x&continue={token}")).await.ok();
        seen.extend(page["items"].as_array().expect("items").iter().map(|i| i["metadata"]["namespace"].clone()));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.into(),
            None => break,
        }
    }
    assert_eq!(seen, ["a-b", "a"]);
}

#[tokio::test]
async fn selectors_and_shapes() {
    let api = Api::start().await;
    make(&api, "a", "red").await;
    make(&api, "b", "blue").await;
    let cases = [
        ("labelSelector=color%3Dred", vec!["a"]),
        ("labelSelector=color%20in%20(red,blue)", vec!["a", "b"]),
        ("labelSelector=!color", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name!%3Db", vec!["a"]),
    ];
    for (query, expected) in cases {
        assert_eq!(names(&api.get(&format!("{CONFIG_MAPS}?{query}")).await.ok()), expected, "{query}");
    }
    let table = api.request(Method::GET, CONFIG_MAPS).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = support::answer(table).await.ok();
    assert_eq!((&table["kind"], table["rows"].as_array().map(Vec::len)), (&json!("Table"), Some(2)));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    let partial = api.request(Method::GET, CONFIG_MAPS);
    let partial = partial.header("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let partial = support::answer(partial).await.ok();
    assert_eq!(partial["items"][0]["kind"], "PartialObjectMetadata");
    let yaml = api.request(Method::GET, CONFIG_MAPS).header("accept", "application/yaml");
    let yaml = yaml.send().await.expect("an answer").text().await.expect("text");
    assert!(yaml.contains("kind: ConfigMapList"), "{yaml}");
}

/// A collection is deleted as it is listed: with the same options, and what can't be listed isn't deleted.
#[tokio::test]
async fn collections_are_deleted_as_listed() {
    let api = Api::start().await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "red")] {
        make(&api, name, color).await;
    }
    for query in ["shardSelector=x", "resourceVersionMatch=Exact"] {
        let refused = api.delete(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(refused.failed().0, 422, "{query}");
    }
    let first = api.delete(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    let more = first["metadata"]["continue"].as_str().expect("more");
    make(&api, "e", "red").await;
    let second = api.delete(&format!("{CONFIG_MAPS}?limit=1&continue={more}")).await.ok();
    assert_eq!(names(&second), ["c"]);
    let last = api.delete(&format!("{CONFIG_MAPS}?labelSelector=color%3Dred")).await.ok();
    assert_eq!(names(&last), ["d", "e"]);
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), [] as [&str; 0]);
}

#[tokio::test]
async fn watches_follow_from_where_a_list_was() {
    let api = Api::start().await;
    make(&api, "a", "red").await;
    let list = api.get(CONFIG_MAPS).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().expect("a revision");
    make(&api, "b", "red").await;
    let mut events = Events::of(&api, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}")).await;
    events.expect("ADDED", "b").await;
    api.patch(&format!("{CONFIG_MAPS}/a"), "merge", &json!({ "data": { "x": "y" } })).await.ok();
    events.expect("MODIFIED", "a").await;
    let before = api.get(&format!("{CONFIG_MAPS}/a")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    let gone = events.expect("DELETED", "a").await;
    assert_eq!(gone["data"], before["data"]);
    assert_ne!(gone["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn objects_come_and_go_with_their_labels() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}?watch=1&labelSelector=color%3Dred");
    let mut events = Events::of(&api, &path).await;
    make(&api, "a", "blue").await;
    let color = |color: &str| json!({ "metadata": { "labels": { "color": color } } });
    api.patch(&format!("{CONFIG_MAPS}/a"), "merge", &color("red")).await.ok();
    events.expect("ADDED", "a").await;
    let blue = api.patch(&format!("{CONFIG_MAPS}/a"), "merge", &color("blue")).await.ok();
    let gone = events.expect("DELETED", "a").await;
    assert_eq!(gone["metadata"]["labels"]["color"], "red");
    assert_eq!(gone["metadata"]["resourceVersion"], blue["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = Api::start().await;
    make(&api, "a", "red").await;
    make(&api, "b", "red").await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let mut events = Events::of(&api, &path).await;
    events.expect("ADDED", "a").await;
    events.expect("ADDED", "b").await;
    let (kind, mark) = events.next().await.expect("a bookmark");
    assert_eq!((kind.as_str(), &mark["kind"]), ("BOOKMARK", &json!("ConfigMap")));
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // Its time over, the watch says where it got to.
    let (kind, last) = events.next().await.expect("a bookmark");
    assert_eq!(kind, "BOOKMARK");
    assert!(last["metadata"]["annotations"].is_null());
    assert!(events.next().await.is_none());
    let refused = api.get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!((refused.failed().0, refused.failed().1), (422, "Invalid"));
}

#[tokio::test]
async fn what_is_no_longer_known_is_said_so() {
    let api = Api::start().await;
    make(&api, "hot", "0").await;
    for n in 0..1005 {
        let patch = json!({ "data": { "n": n.to_string() } });
        api.patch(&format!("{CONFIG_MAPS}/hot"), "merge", &patch).await.ok();
    }
    let mut events = Events::of(&api, &format!("{CONFIG_MAPS}?watch=1&resourceVersion=1")).await;
    let (kind, status) = events.next().await.expect("an event");
    assert_eq!((kind.as_str(), &status["code"], &status["reason"]), ("ERROR", &json!(410), &json!("Expired")));
    assert!(status["message"].as_str().is_some_and(|m| m.starts_with("too old resource version: 1 (")), "{status}");
    let future = api.get(&format!("{CONFIG_MAPS}?resourceVersion=99999999")).await;
    assert_eq!((future.failed().0, future.failed().1), (504, "Timeout"));
}
