//! Fills the cache from the store and follows it.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tug_api::Object;
use tug_store::{Error, Event, Range, Revision, Store};

use super::{Cache, KindState, State};
use crate::codec;

/// How far back a start reads, so that watches from before a restart go on instead of listing anew.
const REPLAY: Revision = 2000;
const PREFIX: &str = "/registry/";

impl Cache {
    /// Reads all objects, then follows the store until `stop`. Returns once the cache is as new as the store was.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn start(self: &Arc<Self>, store: Arc<dyn Store>, stop: CancellationToken) -> Result<(), Error> {
        let newest = store.revision();
        let at = self.load(&*store, newest.saturating_sub(REPLAY)).await?;
        let mut events = store.watch(PREFIX, at).await?;
        let cache = self.clone();
        let (caught_up, mut is_caught_up) = tokio::sync::watch::channel(at);
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = events.recv() => batch,
                    () = stop.cancelled() => return,
                };
                if let Some(batch) = batch {
                    cache.apply(batch);
                    caught_up.send_replace(cache.revision());
                    continue;
                }
                // We fell behind, or the store closed: go on from where we are.
                match store.watch(PREFIX, cache.revision()).await {
                    Ok(again) => events = again,
                    Err(Error::Closed) => return,
                    Err(error) => {
                        tracing::error!(%error, "cannot follow the store");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        // A failure means that the follower ended, which it does only when the server stops.
        let _ = is_caught_up.wait_for(|at| *at >= newest).await;
        Ok(())
    }

    /// Takes the state at about revision `from`; returns the revision that it was taken at.
    async fn load(&self, store: &dyn Store, from: Revision) -> Result<Revision, Error> {
        let range = |at| Range { at: Some(at), ..Range::default() };
        let page = match store.list(PREFIX, range(from)).await {
            Err(Error::Compacted { oldest, .. }) => store.list(PREFIX, range(oldest)).await?,
            other => other?,
        };
        let mut state = self.state.write();
        for entry in page.entries {
            let Some((of_kind, key)) = state.place(&entry.key) else { continue };
            if let Some(object) = decode(&entry.key, &entry.value, entry.revision) {
                of_kind.objects.insert(key.to_owned(), object);
                of_kind.changed = of_kind.changed.max(entry.revision);
            }
        }
        for of_kind in state.kinds.values_mut() {
            of_kind.ring_after = page.revision;
        }
        state.applied = page.revision;
        drop(state);
        self.applied.send_replace(page.revision);
        Ok(page.revision)
    }

    fn apply(&self, batch: Vec<Event>) {
        let Some(newest) = batch.last().map(|event| event.revision) else { return };
        // Decoded before the lock is taken, so that readers don't wait for it.
        let decoded: Vec<_> = batch
            .into_iter()
            .map(|event| {
                let object = event.value.as_ref().and_then(|value| decode(&event.key, value, event.revision));
                (event.key, event.revision, object)
            })
            .collect();
        let mut state = self.state.write();
        for (key, revision, object) in decoded {
            if let Some((of_kind, key)) = state.place(&key) {
                of_kind.apply(key, object, revision);
            }
        }
        state.applied = newest;
        drop(state);
        self.applied.send_replace(newest);
    }
}

impl State {
    /// The kind that a key of the store belongs to, and the rest of the key.
    fn place<'k>(&mut self, key: &'k str) -> Option<(&mut KindState, &'k str)> {
        let mut parts = key.strip_prefix(PREFIX)?.splitn(3, '/');
        let (group, plural, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let group = if group == "core" { "" } else { group };
        let kinds = &mut self.kinds;
        let of_kind = kinds.iter_mut().find_map(|((g, p), state)| (*g == group && *p == plural).then_some(state))?;
        Some((of_kind, rest))
    }
}

fn decode(key: &str, value: &Bytes, revision: Revision) -> Option<Arc<Object>> {
    let decoded = codec::stamp(value, revision).map(Object::decode);
    match decoded {
        Some(Ok(object)) => Some(Arc::new(object)),
        Some(Err(error)) => {
            tracing::error!(key, %error, "a stored object can't be read");
            None
        }
        None => {
            tracing::error!(key, "a stored value isn't an object");
            None
        }
    }
}
