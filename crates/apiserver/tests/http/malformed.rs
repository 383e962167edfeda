//! Requests that can't be honoured, and what upstream's server answers: tables in `malformed/*.txt`.
//!
//! A case is its title, its method and path (with a `Content-Type`, or an `accept=`), its body, and the answer: code and
//! reason, the message, and a line for each field. A body that begins with the name of a `base` is that object with the
//! rest merged into it. `@5` stands for five characters, `…` in a message for what a server fills in, or for a value that
//! upstream prints in its internal form. Where it answers 500 for a client's fault, the code is ours.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Answer, Api};

const TABLES: &[(&str, &str)] = &[
    ("bodies", include_str!("malformed/bodies.txt")),
    ("kinds", include_str!("malformed/kinds.txt")),
    ("metadata", include_str!("malformed/metadata.txt")),
    ("patches", include_str!("malformed/patches.txt")),
    ("paths", include_str!("malformed/paths.txt")),
    ("pods", include_str!("malformed/pods.txt")),
    ("queries", include_str!("malformed/queries.txt")),
    ("subresources", include_str!("malformed/subresources.txt")),
    ("types", include_str!("malformed/types.txt")),
];

struct Case {
    title: String,
    method: Method,
    path: String,
    header: Option<(&'static str, String)>,
    body: String,
    expected: Vec<String>,
}

#[tokio::test]
async fn malformed_requests_are_answered_in_upstreams_words() {
    let api = Api::start().await;
    make_what_cases_are_about(&api).await;
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (table, text) in TABLES {
        for case in cases(text) {
            count += 1;
            let answer = case.send(&api).await;
            let found = lines(&answer);
            let same = found.len() == case.expected.len()
                && found.iter().zip(&case.expected).all(|(found, expected)| is_like(found, expected));
            if !same {
                let (expected, found) = (case.expected.join("\n    "), found.join("\n    "));
                wrong.push(format!("{table}: {}\n  expected\n    {expected}\n  found\n    {found}", case.title));
            }
        }
    }
    assert!(count >= 200, "{count} cases");
    assert!(wrong.is_empty(), "{} of {count} answers are wrong\n{}", wrong.len(), wrong.join("\n"));
}

async fn make_what_cases_are_about(api: &Api) {
    let config_map = |name: &str| json!({ "metadata": { "name": name }, "data": { "a": "b" } });
    let mut immutable = config_map("immutable");
    immutable["immutable"] = true.into();
    let containers = json!([{ "name": "c", "image": "i" }]);
    let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": containers } });
    let core = "/api/v1/namespaces/default";
    let objects = [
        (format!("{core}/configmaps"), config_map("cm")),
        (format!("{core}/configmaps"), config_map("fixed")),
        (format!("{core}/configmaps"), immutable),
        (
            "/apis/apps/v1/namespaces/default/deployments".into(),
            json!({
                "metadata": { "name": "dep" },
                "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": template },
            }),
        ),
        (format!("{core}/serviceaccounts"), json!({ "metadata": { "name": "default" } })),
        (
            format!("{core}/pods"),
            json!({ "metadata": { "name": "pod" }, "spec": { "nodeName": "n", "containers": containers } }),
        ),
        (
            format!("{core}/services"),
            json!({ "metadata": { "name": "svc" }, "spec": { "clusterIP": "10.96.100.1", "ports": [{ "port": 80 }] } }),
        ),
        (format!("{core}/secrets"), json!({ "metadata": { "name": "secret" }, "type": "Opaque" })),
    ];
    for (path, object) in objects {
        api.post(&path, &object).await.ok();
    }
    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" }, "data": { "a": "theirs" },
    });
    let path = format!("{core}/configmaps/applied?fieldManager=other");
    let request = api.request(Method::PATCH, &path).header("content-type", "application/apply-patch+yaml");
    support::answer(request.body(applied.to_string())).await.ok();
}

/// An answer as the tables have it.
fn lines(answer: &Answer) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if answer.body["kind"] != "Status" {
        return vec![format!("{} without a Status", answer.code.as_u16()), answer.body.to_string()];
    }
    let head = format!("{} {}", answer.code.as_u16(), text(&answer.body["reason"]));
    let mut lines = vec![head.trim_end().to_owned(), text(&answer.body["message"]).trim().to_owned()];
    for cause in answer.body["details"]["causes"].as_array().into_iter().flatten() {
        let (field, reason) = (text(&cause["field"]), text(&cause["reason"]));
        if !field.is_empty() {
            lines.push(format!("{field} {reason}"));
        }
    }
    // Upstream checks metadata twice.
    lines.dedup();
    lines
}

/// Whether a line is the expected one, `…` standing for anything.
fn is_like(found: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || (expected.contains('…') && (last.is_empty() || rest.ends_with(last)))
}

fn cases(text: &str) -> Vec<Case> {
    let mut bases = BTreeMap::new();
    let mut cases = Vec::new();
    for block in text.split("\n\n") {
        let lines: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
        for line in lines.iter().filter_map(|line| line.strip_prefix("base ")) {
            let (name, object) = line.split_once(' ').expect("a name and an object");
            bases.insert(name.to_owned(), serde_json::from_str::<Value>(object).expect("JSON"));
        }
        if let Some(title) = lines.first().and_then(|line| line.strip_prefix("# ")) {
            cases.push(Case::parse(title, &lines[1..], &bases));
        }
    }
    cases
}

impl Case {
    fn parse(title: &str, lines: &[&str], bases: &BTreeMap<String, Value>) -> Self {
        let answer = lines.iter().position(|line| line.starts_with("-> ")).expect("an answer");
        let mut words = lines[0].split(' ');
        let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
        let body = body(&lines[1..answer].join("\n"), bases);
        let header = match words.next() {
            Some(word) => match word.strip_prefix("accept=") {
                Some(accept) => Some(("accept", accept.to_owned())),
                None => Some(("content-type", word.to_owned())),
            },
            None => (!body.is_empty()).then(|| ("content-type", "application/json".to_owned())),
        };
        Self {
            title: title.into(),
            method: method.parse().expect("a method"),
            path: blown(path),
            header,
            body,
            expected: lines[answer..].iter().map(|line| line.trim_start_matches("-> ").trim().to_owned()).collect(),
        }
    }

    async fn send(&self, api: &Api) -> Answer {
        let mut request = api.request(self.method.clone(), &self.path);
        if let Some((name, value)) = &self.header {
            request = request.header(*name, value);
        }
        support::answer(if self.body.is_empty() { request } else { request.body(self.body.clone()) }).await
    }
}

fn body(text: &str, bases: &BTreeMap<String, Value>) -> String {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    if let Some(base) = bases.get(first) {
        let mut object = base.clone();
        merge(&mut object, serde_json::from_str(rest).expect("JSON"));
        return blown(&object.to_string());
    }
    if text == "@operations" {
        return json!(vec![json!({ "op": "test", "path": "/data/a", "value": "b" }); 10_001]).to_string();
    }
    blown(text)
}

/// RFC 7386.
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *object = patch };
    if !object.is_object() {
        *object = json!({});
    }
    for (field, value) in patch {
        match value {
            Value::Null => drop(object.as_object_mut().expect("made above").remove(&field)),
            value => merge(&mut object[field], value),
        }
    }
}

/// `@5` becomes five characters.
fn blown(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let digits: String = rest[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        out.push_str(&rest[..at]);
        match digits.parse() {
            Ok(count) => out.push_str(&"x".repeat(count)),
            Err(_) => out.push('@'),
        }
        rest = &rest[at + 1 + digits.len()..];
    }
    out + rest
}
