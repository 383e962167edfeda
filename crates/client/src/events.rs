//! Records core/v1 Events about objects, folding repeats into one Event's `count` as client-go's recorder does.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{Metadata, Resource};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that may wait to be written; client-go's broadcaster queues as many.
const MOST_WAITING: usize = 1000;
/// Events remembered for folding; client-go's correlator keeps as many.
const MOST_REMEMBERED: usize = 4096;
/// client-go's spam filter: events about one object at once, and the time after which one more may come.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// While the server can't be reached, an event is tried again so often, client-go's number, at this interval.
const TRIES: usize = 12;
const RETRY: Duration = Duration::from_secs(10);

/// Cheap to clone. Its writer ends with the last clone, after what was queued is written.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

/// What happened, and what makes two happenings the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Occurrence {
    about: Reference,
    kind: &'static str,
    reason: String,
    message: String,
}

/// `ObjectReference`, but hashable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference {
    api_version: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
}

/// An Event that was written.
struct Remembered {
    name: String,
    count: i32,
    first: Timestamp,
}

/// What may still be said about an object.
struct Allowance {
    left: f64,
    at: Instant,
}

/// The task that writes.
struct Writer {
    client: kube::Client,
    source: EventSource,
    remembered: HashMap<Occurrence, Remembered>,
    allowances: HashMap<Reference, Allowance>,
}

impl Recorder {
    /// `component` is `source.component` (`kubelet`, `default-scheduler`, `deployment-controller`), `host` its node.
    pub fn new(client: kube::Client, component: &'static str, host: Option<String>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Occurrence>(MOST_WAITING);
        let source = EventSource { component: Some(component.into()), host };
        let mut writer = Writer { client, source, remembered: HashMap::new(), allowances: HashMap::new() };
        tokio::spawn(async move {
            while let Some(occurrence) = waiting.recv().await {
                if !writer.allows(&occurrence.about) {
                    tracing::debug!(component, reason = occurrence.reason, "too many events about one object");
                    continue;
                }
                if let Err(error) = writer.write(occurrence).await {
                    tracing::debug!(component, %error, "an event is lost");
                }
            }
        });
        Self { queue }
    }

    /// Never waits; past a bound of queued events further ones are dropped with a trace.
    pub fn normal(&self, about: &ObjectReference, reason: &str, message: &str) {
        self.record("Normal", about, reason, message);
    }

    pub fn warning(&self, about: &ObjectReference, reason: &str, message: &str) {
        self.record("Warning", about, reason, message);
    }

    fn record(&self, kind: &'static str, about: &ObjectReference, reason: &str, message: &str) {
        let about = Reference {
            api_version: about.api_version.clone(),
            kind: about.kind.clone(),
            namespace: about.namespace.clone(),
            name: about.name.clone(),
            uid: about.uid.clone(),
            field_path: about.field_path.clone(),
        };
        // Upstream's limit for a message is 1024 bytes.
        let mut message = message.to_owned();
        let end = (0..=1024.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        let occurrence = Occurrence { about, kind, reason: reason.into(), message };
        if self.queue.try_send(occurrence).is_err() {
            tracing::warn!(reason, "too many events wait: one is dropped");
        }
    }
}

impl Writer {
    fn allows(&mut self, about: &Reference) -> bool {
        let now = Instant::now();
        if self.allowances.len() >= MOST_REMEMBERED && !self.allowances.contains_key(about) {
            // Those who have their whole allowance again need no entry.
            let whole = REFILL.mul_f64(BURST);
            self.allowances.retain(|_, allowance| now.duration_since(allowance.at) < whole);
            if self.allowances.len() >= MOST_REMEMBERED {
                self.allowances.clear();
            }
        }
        let allowance = self.allowances.entry(about.clone()).or_insert(Allowance { left: BURST, at: now });
        let refilled = now.duration_since(allowance.at).as_secs_f64() / REFILL.as_secs_f64();
        allowance.left = (allowance.left + refilled).min(BURST);
        allowance.at = now;
        if allowance.left < 1.0 {
            return false;
        }
        allowance.left -= 1.0;
        true
    }

    async fn write(&mut self, occurrence: Occurrence) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        for _ in 1..TRIES {
            match self.try_write(&occurrence, now).await {
                // The server has judged it.
                Err(kube::Error::Api(status)) => return Err(kube::Error::Api(status)),
                Err(error) => tracing::debug!(%error, "an event can't be written yet"),
                Ok(()) => return Ok(()),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.try_write(&occurrence, now).await
    }

    async fn try_write(&mut self, occurrence: &Occurrence, now: Timestamp) -> Result<(), kube::Error> {
        let about = &occurrence.about;
        // Events about what has no namespace are in the default one.
        let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let known = self.remembered.get(occurrence);
        if let Some(known) = known {
            let patch = serde_json::json!({ "count": known.count + 1, "lastTimestamp": Time(now) });
            match events.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // It has outlived its time: made anew, with the count that it had.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                outcome => {
                    outcome?;
                    self.remember(occurrence, now);
                    return Ok(());
                }
            }
        }
        let event = Event {
            metadata: ObjectMeta {
                name: Some(known.map_or_else(|| name_of(about, now), |known| known.name.clone())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about.clone().into(),
            type_: Some(occurrence.kind.into()),
            reason: Some(occurrence.reason.clone()),
            message: Some(occurrence.message.clone()),
            count: Some(known.map_or(1, |known| known.count + 1)),
            first_timestamp: Some(Time(known.map_or(now, |known| known.first))),
            last_timestamp: Some(Time(now)),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            source: Some(self.source.clone()),
            ..Event::default()
        };
        events.create(&PostParams::default(), &event).await?;
        self.remember(occurrence, now);
        Ok(())
    }

    /// One more of these was written at `now`.
    fn remember(&mut self, occurrence: &Occurrence, now: Timestamp) {
        if let Some(known) = self.remembered.get_mut(occurrence) {
            known.count += 1;
            return;
        }
        if self.remembered.len() >= MOST_REMEMBERED {
            // Repeats of what is forgotten are new Events.
            self.remembered.clear();
        }
        let name = name_of(&occurrence.about, now);
        self.remembered.insert(occurrence.clone(), Remembered { name, count: 1, first: now });
    }
}

/// client-go's names of Events: the object's, and the time in nanoseconds.
fn name_of(about: &Reference, now: Timestamp) -> String {
    format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond())
}

impl From<Reference> for ObjectReference {
    fn from(about: Reference) -> Self {
        Self {
            api_version: about.api_version,
            kind: about.kind,
            namespace: about.namespace,
            name: about.name,
            uid: about.uid,
            field_path: about.field_path,
            resource_version: None,
        }
    }
}

/// The reference that events and owner references carry.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.into()),
        kind: Some(K::KIND.into()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    type Asked = (String, String, Value);

    /// A server that keeps what it is asked and takes all of it; a PATCH finds nothing when `forgets`.
    fn server(forgets: bool) -> (kube::Client, mpsc::UnboundedReceiver<Asked>) {
        let (asked, asks) = mpsc::unbounded_channel();
        let last = Arc::new(Mutex::new(json!({ "metadata": {}, "involvedObject": {} })));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (asked, last) = (asked.clone(), last.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a body");
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let patches = head.method == "PATCH";
                asked
                    .send((head.method.to_string(), head.uri.path().to_owned(), body.clone()))
                    .expect("the test reads");
                let (status, answer) = if patches && forgets {
                    let gone = json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "" });
                    (404, gone)
                } else {
                    if !patches {
                        *last.lock() = body;
                    }
                    (200, last.lock().clone())
                };
                let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(response.expect("well-formed"))
            }
        });
        (kube::Client::new(service, "default"), asks)
    }

    fn pod() -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".into()),
            name: Some("p".into()),
            namespace: Some("n".into()),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_repeat_counts_in_the_event_that_is_there() {
        for forgets in [false, true] {
            let (client, mut asks) = server(forgets);
            let recorder = Recorder::new(client, "kubelet", Some("node".into()));
            recorder.warning(&pod(), "BackOff", "again");
            recorder.warning(&pod(), "BackOff", "again");
            let (method, path, event) = asks.recv().await.expect("an event");
            assert_eq!((method.as_str(), path.as_str()), ("POST", "/api/v1/namespaces/n/events"));
            let name = event["metadata"]["name"].as_str().expect("named");
            assert!(name.starts_with("p.") && name.len() == 2 + 16, "{name}");
            assert_eq!(event["source"], json!({ "component": "kubelet", "host": "node" }));
            assert_eq!((&event["count"], &event["type"]), (&json!(1), &json!("Warning")));
            let (method, path, patch) = asks.recv().await.expect("a repeat");
            assert_eq!((method.as_str(), path), ("PATCH", format!("/api/v1/namespaces/n/events/{name}")));
            assert_eq!(patch["count"], 2);
            if forgets {
                let (_, _, again) = asks.recv().await.expect("made anew");
                assert_eq!((&again["count"], &again["metadata"]["name"]), (&json!(2), &json!(name)));
                assert_eq!(again["firstTimestamp"], event["firstTimestamp"]);
            }
        }
    }

    #[tokio::test]
    async fn what_is_said_of_one_object_is_bounded() {
        let (client, mut asks) = server(false);
        let recorder = Recorder::new(client, "kubelet", None);
        for n in 0..40 {
            recorder.normal(&pod(), "Pulled", &format!("image {n}"));
        }
        drop(recorder);
        let mut written = 0;
        while asks.recv().await.is_some() {
            written += 1;
        }
        assert_eq!(written, 25);
    }
}
