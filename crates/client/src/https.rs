//! Objects from an API server elsewhere: a listing, then a watch, over `kube::Client`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tug_api::Object;

use crate::source::{Scope, Source, SourceEvent};

/// Objects a page; client-go's pager asks for as many.
const PAGE: usize = 500;
/// Delays between tries, doubled up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
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

#[derive(Deserialize)]
struct Listing<'a> {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    metadata: ListingMeta,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
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
            tokio::select! {
                () = self.events.closed() => return,
                () = tokio::time::sleep(delay) => delay = (delay * 2).min(LONGEST_DELAY),
            }
        }
    }

    /// Returns or fails when a new listing is needed.
    async fn list_and_watch(&self, delay: &mut Duration) -> Result<(), Interruption> {
        self.send(SourceEvent::Restart).await?;
        let mut continue_token = String::new();
        let mut revision = loop {
            let query = [("limit", PAGE.to_string()), ("continue", continue_token)];
            let text = self.client.request_text(self.request(&query)?).await?;
            let page: Listing = serde_json::from_str(&text)?;
            let kind = page.kind.strip_suffix("List").unwrap_or(&page.kind);
            for item in page.items {
                let object = Object::decode(with_kind(item.get(), &page.api_version, kind))?;
                self.send(SourceEvent::Applied(Arc::new(object))).await?;
            }
            continue_token = page.metadata.continue_token;
            if continue_token.is_empty() {
                break page.metadata.resource_version;
            }
        };
        self.send(SourceEvent::Synced).await?;
        *delay = FIRST_DELAY;
        loop {
            // A watch that ends by itself is taken up where it ended.
            self.watch(&mut revision).await?;
        }
    }

    async fn watch(&self, revision: &mut String) -> Result<(), Interruption> {
        let query = [
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", revision.clone()),
        ];
        let mut lines = self.client.request_stream(self.request(&query)?).await?.lines();
        while let Some(line) = lines.try_next().await? {
            let event: WatchEvent = serde_json::from_str(&line)?;
            if event.r#type == "ERROR" {
                return Err(Interruption::Refused(event.object.get().to_owned()));
            }
            let object = Object::decode(Bytes::copy_from_slice(event.object.get().as_bytes()))?;
            object.meta.resource_version.clone_into(revision);
            match event.r#type.as_str() {
                "ADDED" | "MODIFIED" => self.send(SourceEvent::Applied(Arc::new(object))).await?,
                "DELETED" => self.send(SourceEvent::Deleted(Arc::new(object))).await?,
                _ => {}
            }
        }
        Ok(())
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
    if item.starts_with("{\"apiVersion\":") || item.starts_with("{\"kind\":") {
        return Bytes::copy_from_slice(item.as_bytes());
    }
    let rest = item.trim_start().strip_prefix('{').unwrap_or(item);
    let separator = if rest.trim_start().starts_with('}') { "" } else { "," };
    Bytes::from(format!("{{\"apiVersion\":{api_version:?},\"kind\":{kind:?}{separator}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_get_the_kind_of_their_list() {
        let cases = [
            ("{\"metadata\":{}}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{}}"),
            ("{\"kind\":\"Pod\"}", "{\"kind\":\"Pod\"}"),
            ("{}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"),
        ];
        for (item, expected) in cases {
            assert_eq!(with_kind(item, "v1", "Pod"), expected);
        }
    }
}
