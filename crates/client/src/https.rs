//! Objects from an API server elsewhere: a listing, then a watch, over `kube::Client`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tug_api::Object;

use crate::source::{Scope, Source, SourceEvent};

/// Objects a page; client-go's pager asks for as many.
const PAGE: usize = 500;
/// Delays between tries, doubled up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A watch that ends earlier than this without an event is as good as failed.
const SHORT: Duration = Duration::from_secs(1);
/// Events on their way to a slow informer.
const MOST_WAITING: usize = 256;

/// A source that speaks for the client's identity.
pub struct HttpsSource {
    client: kube::Client,
}

impl HttpsSource {
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }
}

impl Source for HttpsSource {
    fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
        let (events, stream) = mpsc::channel(MOST_WAITING);
        let follower = Follower { client: self.client.clone(), scope, events };
        // It ends when the stream is dropped: sending fails then.
        tokio::spawn(follower.run());
        ReceiverStream::new(stream).boxed()
    }
}

#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("{0}")]
    Request(#[from] kube::Error),
    #[error("making the request: {0}")]
    Malformed(#[from] http::Error),
    #[error("reading an object: {0}")]
    Decoding(#[from] serde_json::Error),
    #[error("the watch broke: {0}")]
    Broken(#[from] std::io::Error),
    #[error("the watch ended with {0}")]
    Refused(String),
    #[error("the informer has gone")]
    Unheard,
}

impl Interruption {
    /// Whether watching on from the last revision is no use: the server doesn't keep it, or what it said can't be read.
    fn loses_the_place(&self) -> bool {
        match self {
            Self::Broken(_) => false,
            Self::Request(kube::Error::Api(status)) => status.code == 410,
            Self::Request(_) => false,
            Self::Malformed(_) | Self::Decoding(_) | Self::Refused(_) | Self::Unheard => true,
        }
    }
}

#[derive(Deserialize)]
struct Listing<'a> {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    metadata: ListingMeta,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

/// Whether an item says what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListingMeta {
    resource_version: String,
    #[serde(rename = "continue", default)]
    continue_token: String,
}

#[derive(Deserialize)]
struct WatchEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

struct Follower {
    client: kube::Client,
    scope: Scope,
    events: mpsc::Sender<SourceEvent>,
}

impl Follower {
    async fn run(self) {
        let mut delay = FIRST_DELAY;
        loop {
            match self.list_and_watch(&mut delay).await {
                Err(Interruption::Unheard) => return,
                Err(error) => tracing::info!(resource = self.scope.plural, %error, "will list again"),
                Ok(()) => {}
            }
            if self.rest(&mut delay).await.is_err() {
                return;
            }
        }
    }

    /// Fails when a new listing is needed.
    async fn list_and_watch(&self, delay: &mut Duration) -> Result<(), Interruption> {
        let mut revision = self.list().await?;
        *delay = FIRST_DELAY;
        loop {
            let (begun, known) = (Instant::now(), revision.clone());
            match self.watch(&mut revision).await {
                Ok(()) => {}
                Err(error) if error.loses_the_place() => return Err(error),
                Err(error) => tracing::info!(resource = self.scope.plural, %error, "will watch again"),
            }
            if revision == known && begun.elapsed() < SHORT {
                self.rest(delay).await?;
            } else {
                *delay = FIRST_DELAY;
            }
        }
    }

    /// Sends all objects; returns the revision that they were listed at.
    async fn list(&self) -> Result<String, Interruption> {
        self.send(SourceEvent::Restart).await?;
        let mut continue_token = String::new();
        loop {
            let query = [("limit", PAGE.to_string()), ("continue", continue_token)];
            let text = self.client.request_text(self.request(&query)?).await?;
            let page: Listing = serde_json::from_str(&text)?;
            let kind = page.kind.strip_suffix("List").unwrap_or(&page.kind);
            for item in page.items {
                if let Some(object) = self.decode(with_kind(item.get(), &page.api_version, kind)) {
                    self.send(SourceEvent::Applied(object)).await?;
                }
            }
            continue_token = page.metadata.continue_token;
            if continue_token.is_empty() {
                self.send(SourceEvent::Synced).await?;
                if let Ok(revision) = page.metadata.resource_version.parse() {
                    self.send(SourceEvent::Reached(revision)).await?;
                }
                return Ok(page.metadata.resource_version);
            }
        }
    }

    /// Keeps `revision` at the newest one seen. Ends when the server ends the watch, as it does from time to time.
    async fn watch(&self, revision: &mut String) -> Result<(), Interruption> {
        let query = [
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", revision.clone()),
        ];
        let lines = self.client.request_stream(self.request(&query)?).await?.lines();
        futures::pin_mut!(lines);
        loop {
            let line = tokio::select! {
                line = lines.try_next() => line?,
                () = self.events.closed() => return Err(Interruption::Unheard),
            };
            let Some(line) = line else { return Ok(()) };
            let event: WatchEvent = serde_json::from_str(&line)?;
            if event.r#type == "ERROR" {
                return Err(Interruption::Refused(event.object.get().to_owned()));
            }
            let Some(object) = self.decode(Bytes::copy_from_slice(event.object.get().as_bytes())) else { continue };
            object.meta.resource_version.clone_into(revision);
            match event.r#type.as_str() {
                "ADDED" | "MODIFIED" => self.send(SourceEvent::Applied(object)).await?,
                "DELETED" => self.send(SourceEvent::Deleted(object)).await?,
                // A bookmark.
                _ => self.send(SourceEvent::Reached(object.revision)).await?,
            }
        }
    }

    /// An object without well-formed metadata is left out with a trace; the others go on.
    fn decode(&self, json: Bytes) -> Option<Arc<Object>> {
        let warn = |error: &_| tracing::warn!(resource = self.scope.plural, %error, "an object can't be read");
        Object::decode(json).inspect_err(warn).ok().map(Arc::new)
    }

    /// Waits for `delay`, which is doubled, with client-go's spread of half as much.
    async fn rest(&self, delay: &mut Duration) -> Result<(), Interruption> {
        let spread = delay.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        *delay = (*delay * 2).min(LONGEST_DELAY);
        tokio::select! {
            () = self.events.closed() => Err(Interruption::Unheard),
            () = tokio::time::sleep(spread) => Ok(()),
        }
    }

    fn request(&self, query: &[(&str, String)]) -> Result<Request<Vec<u8>>, http::Error> {
        let Scope { group, version, plural, namespace, labels, fields } = &self.scope;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let path = if namespace.is_empty() {
            format!("{root}/{plural}")
        } else {
            format!("{root}/namespaces/{namespace}/{plural}")
        };
        let selectors = [("labelSelector", labels.clone()), ("fieldSelector", fields.clone())];
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in query.iter().chain(&selectors).filter(|(_, value)| !value.is_empty()) {
            pairs.append_pair(name, value);
        }
        Request::get(format!("{path}?{}", pairs.finish())).body(Vec::new())
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Interruption> {
        self.events.send(event).await.map_err(|_| Interruption::Unheard)
    }
}

/// Items of a list may come without their `apiVersion` and `kind`, which the list has for all of them.
fn with_kind(item: &str, api_version: &str, kind: &str) -> Bytes {
    let (known_version, known_kind) = match serde_json::from_str::<Typed>(item) {
        Ok(typed) => (typed.api_version.is_some(), typed.kind.is_some()),
        // Not an object: decoding it says so.
        Err(_) => (true, true),
    };
    if known_version && known_kind {
        return Bytes::copy_from_slice(item.as_bytes());
    }
    let rest = item.trim_start().strip_prefix('{').unwrap_or(item);
    let mut fields = Vec::new();
    if !known_version {
        fields.push(format!("\"apiVersion\":{api_version:?}"));
    }
    if !known_kind {
        fields.push(format!("\"kind\":{kind:?}"));
    }
    let separator = if rest.trim_start().starts_with('}') { "" } else { "," };
    Bytes::from(format!("{{{}{separator}{rest}", fields.join(",")))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http::Response;
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;

    /// A server that answers each request with the next line of its script: (what the query must have, status, body).
    fn server(script: &[(&'static str, u16, &'static str)]) -> kube::Client {
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = script.lock().pop_front();
            async move {
                let Some((expected, status, body)) = answer else { return std::future::pending().await };
                let asked = request.uri().to_string();
                assert!(asked.contains(expected), "{asked} lacks {expected}");
                let response = Response::builder().status(status).body(Body::from(body.as_bytes().to_vec()));
                Ok::<_, Infallible>(response.expect("well-formed"))
            }
        });
        kube::Client::new(service, "default")
    }

    fn told(event: SourceEvent) -> String {
        match event {
            SourceEvent::Restart => "restart".into(),
            SourceEvent::Synced => "synced".into(),
            SourceEvent::Reached(revision) => format!("at {revision}"),
            SourceEvent::Applied(object) => format!("{}@{}", object.key, object.revision),
            SourceEvent::Deleted(object) => format!("-{}@{}", object.key, object.revision),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_where_it_broke_and_lists_anew_when_that_is_forgotten() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}"#;
        let client = server(&[
            (
                "/apis/apps/v1/namespaces/n/deployments?limit=500&labelSelector=a%3Db",
                200,
                r#"{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"5","continue":"c"},"items":[
                    {"metadata":{"namespace":"n","name":"x","resourceVersion":"3"}}]}"#,
            ),
            (
                "continue=c",
                200,
                r#"{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"5"},"items":[
                    {"metadata":{"namespace":"n","name":"y","resourceVersion":"4"}}]}"#,
            ),
            (
                "watch=true&allowWatchBookmarks=true&resourceVersion=5",
                200,
                concat!(
                    r#"{"type":"MODIFIED","object":{"metadata":{"namespace":"n","name":"x","resourceVersion":"6"}}}"#,
                    "\n",
                    r#"{"type":"DELETED","object":{"metadata":{"namespace":"n","name":"y","resourceVersion":"7"}}}"#,
                    "\n",
                    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
                    "\n",
                ),
            ),
            ("resourceVersion=9", 503, r#"{"kind":"Status","status":"Failure","code":503,"message":"m","reason":"r"}"#),
            ("resourceVersion=9", 410, gone),
            (
                "limit=500",
                200,
                r#"{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"20"},"items":[]}"#,
            ),
        ]);
        let scope = Scope {
            group: "apps".into(),
            version: "v1".into(),
            plural: "deployments".into(),
            namespace: "n".into(),
            labels: "a=b".into(),
            fields: String::new(),
        };
        let events = HttpsSource::new(client).follow(scope).take(11).map(told).collect::<Vec<_>>().await;
        let first = ["restart", "n/x@3", "n/y@4", "synced", "at 5", "n/x@6", "-n/y@7", "at 9"];
        assert_eq!(events, [&first[..], &["restart", "synced", "at 20"]].concat());
    }

    #[test]
    fn items_get_the_kind_of_their_list() {
        let cases = [
            ("{\"metadata\":{}}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{}}"),
            ("{\"kind\":\"Pod\"}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"),
            (
                "{\"metadata\":{},\"kind\":\"Pod\",\"apiVersion\":\"v1\"}",
                "{\"metadata\":{},\"kind\":\"Pod\",\"apiVersion\":\"v1\"}",
            ),
            ("{}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"),
        ];
        for (item, expected) in cases {
            assert_eq!(with_kind(item, "v1", "Pod"), expected);
        }
    }
}
