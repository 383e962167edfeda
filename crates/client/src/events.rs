//! Records core/v1 Events about objects, folding repeats into one Event's `count` as client-go's recorder does.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{Metadata, Resource};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

/// Events that may wait to be written; client-go's broadcaster queues as many.
const MOST_WAITING: usize = 1000;
/// Events remembered for folding; client-go's correlator keeps as many.
const MOST_REMEMBERED: usize = 4096;
/// A repeat that comes later than this is a new Event.
const FOLDING_TIME: Duration = Duration::from_secs(600);

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

struct Remembered {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// `component` is `source.component` (`kubelet`, `default-scheduler`, `deployment-controller`), `host` its node.
    pub fn new(client: kube::Client, component: &'static str, host: Option<String>) -> Self {
        let (queue, mut waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(async move {
            let source = EventSource { component: Some(component.into()), host };
            let mut remembered = HashMap::new();
            while let Some(occurrence) = waiting.recv().await {
                if let Err(error) = write(&client, &source, &mut remembered, occurrence).await {
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
        message.truncate(message.floor_char_boundary(1024));
        let occurrence = Occurrence { about, kind, reason: reason.into(), message };
        if self.queue.try_send(occurrence).is_err() {
            tracing::warn!(reason, "too many events wait: one is dropped");
        }
    }
}

async fn write(
    client: &kube::Client,
    source: &EventSource,
    remembered: &mut HashMap<Occurrence, Remembered>,
    occurrence: Occurrence,
) -> Result<(), kube::Error> {
    let namespace = occurrence.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let now = Timestamp::now();
    let recent = |known: &Remembered| now.duration_since(known.last).unsigned_abs() < FOLDING_TIME;
    if let Some(known) = remembered.get_mut(&occurrence).filter(|known| recent(known)) {
        let patch = serde_json::json!({ "count": known.count + 1, "lastTimestamp": Time(now) });
        match events.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                known.count += 1;
                known.last = now;
                return Ok(());
            }
            // Someone has deleted it: begin anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let about = &occurrence.about;
    let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: about.api_version.clone(),
            kind: about.kind.clone(),
            namespace: about.namespace.clone(),
            name: about.name.clone(),
            uid: about.uid.clone(),
            field_path: about.field_path.clone(),
            resource_version: None,
        },
        type_: Some(occurrence.kind.into()),
        reason: Some(occurrence.reason.clone()),
        message: Some(occurrence.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        source: Some(source.clone()),
        ..Event::default()
    };
    events.create(&PostParams::default(), &event).await?;
    if remembered.len() >= MOST_REMEMBERED {
        remembered.retain(|_, known| recent(known));
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
    }
    remembered.insert(occurrence, Remembered { name, count: 1, last: now });
    Ok(())
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
