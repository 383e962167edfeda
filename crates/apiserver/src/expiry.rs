//! Events are forgotten some time after they last happened. The newest can't be due before that time is over, so the
//! next look is when the oldest one is due.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tug_api::Object;
use tug_api::kinds::core;

use crate::cache::Select;
use crate::registry::{DeleteOptions, Preconditions, Registry, Unconditionally};

/// Those that are due within this time of one another go together.
const TOGETHER: Duration = Duration::from_secs(60);
/// Deletions at once, which share a commit.
const AT_ONCE: usize = 64;

/// Deletes Events `life` after they last happened, until `stop`.
pub async fn run(registry: Arc<Registry>, life: Duration, stop: CancellationToken) {
    loop {
        let next = sweep(&registry, life).await.max(TOGETHER.min(life));
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Returns the time until another one is due.
async fn sweep(registry: &Registry, life: Duration) -> Duration {
    let now = Timestamp::now();
    let mut next = life;
    let mut due = Vec::new();
    for event in registry.cache.list(&core::EVENT, &Select::default(), None, 0).objects {
        match left(&event, life, now) {
            Some(left) => next = next.min(left),
            None => due.push(event),
        }
    }
    let expire = |event: Arc<Object>| async move {
        // One that has happened again lives on.
        let resource_version = Some(event.meta.resource_version.clone());
        let preconditions = Preconditions { resource_version, ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        if let Err(status) = registry.delete(&core::EVENT, &event.key, &options, &Unconditionally).await {
            tracing::debug!(event = %event.key, status.message, "an event stays a while longer");
        }
    };
    stream::iter(due.into_iter().map(expire)).buffer_unordered(AT_ONCE).collect::<()>().await;
    next
}

/// How long the event still has, if it does.
fn left(event: &Object, life: Duration, now: Timestamp) -> Option<Duration> {
    let until = |last: Timestamp| {
        let end = last.checked_add(life).unwrap_or(Timestamp::MAX);
        Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
    };
    let made = event.meta.creation_timestamp.as_ref().and_then(|made| made.parse().ok()).unwrap_or(Timestamp::MIN);
    // A new one isn't due whatever else it says.
    until(made).or_else(|| until(made.max(last(&event.value().unwrap_or_default()))))
}

/// When it happened last, as either kind of Event says it.
fn last(event: &Value) -> Timestamp {
    let times = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime"];
    let times = times.iter().filter_map(|field| event.pointer(field)?.as_str()?.parse().ok());
    times.max().unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tug_store::SqliteStore;

    use super::*;
    use crate::cache::Cache;
    use crate::objects::Objects;

    #[tokio::test]
    async fn events_go_and_nothing_else() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let store = Arc::new(SqliteStore::open(dir.path().join("state.db")).expect("a store"));
        let (cache, stop) = (Arc::new(Cache::new()), CancellationToken::new());
        cache.start(store.clone(), stop.clone()).await.expect("an empty cache");
        let cidr = ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 12);
        let registry = Registry::new(store, cache, cidr, 30000..=32767);
        let named = |api_version: &str, kind: &str, more: Value| {
            let mut object = json!({
                "apiVersion": api_version, "kind": kind, "metadata": { "name": "x", "namespace": "default" },
            });
            object["involvedObject"] = more;
            object
        };
        let objects: &dyn Objects = &registry;
        let event = named("v1", "Event", json!({ "namespace": "default" }));
        objects.create(&core::EVENT, event).await.expect("made");
        objects.create(&core::CONFIG_MAP, named("v1", "ConfigMap", Value::Null)).await.expect("made");

        let hour = Duration::from_secs(3600);
        let next = sweep(&registry, hour).await;
        assert!(next <= hour && next > hour / 2, "{next:?}");
        assert_eq!(objects.list(&core::EVENT, None).len(), 1);
        assert_eq!(sweep(&registry, Duration::ZERO).await, Duration::ZERO);
        assert_eq!(objects.list(&core::EVENT, None).len(), 0);
        assert_eq!(objects.list(&core::CONFIG_MAP, None).len(), 1);
        stop.cancel();
    }

    #[test]
    fn an_event_lives_an_hour_from_when_it_last_happened() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let cases = [
            (json!({}), "11:30", Some(30)),
            (json!({}), "11:00", None),
            (json!({ "lastTimestamp": "2026-01-01T11:10:00Z" }), "09:00", Some(10)),
            (json!({ "lastTimestamp": null, "eventTime": "2026-01-01T11:20:00.000000Z" }), "09:00", Some(20)),
            (
                json!({
                    "eventTime": "2026-01-01T09:00:00.000000Z",
                    "series": { "count": 2, "lastObservedTime": "2026-01-01T11:30:00.000000Z" },
                }),
                "09:00",
                Some(30),
            ),
            (json!({ "lastTimestamp": "2026-01-01T10:59:00Z" }), "09:00", None),
        ];
        for (mut event, made, minutes) in cases {
            event["metadata"] = json!({ "name": "e", "creationTimestamp": format!("2026-01-01T{made}:00Z") });
            let object = Object::decode(event.to_string().into()).expect("an object");
            let left = left(&object, Duration::from_secs(3600), now);
            assert_eq!(left, minutes.map(|minutes| Duration::from_secs(minutes * 60)), "{event}");
        }
    }
}
