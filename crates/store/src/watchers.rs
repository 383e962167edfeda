//! Who watches the store, and what they are told: each committed change once, in order of revision.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Event, Revision, Watch};

/// Batches that a watcher may lag behind before it is dropped and starts anew.
const LAG: usize = 1024;

/// All live watches.
#[derive(Default)]
pub(crate) struct Watchers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All changes up to here have been told.
    told: Revision,
    next_ticket: u64,
    live: Vec<Watcher>,
    closed: bool,
}

struct Watcher {
    ticket: u64,
    prefix: String,
    /// The watcher knows the changes up to here, even if they haven't been told yet.
    after: Revision,
    batches: mpsc::Sender<Vec<Event>>,
    /// What was committed while older changes are still read from the table; `None` once those are sent.
    held: Option<Vec<Vec<Event>>>,
}

/// A watcher that is still being sent older changes.
pub(crate) struct Joining {
    pub(crate) ticket: u64,
    /// The newest change that isn't told live: older ones come from the table.
    pub(crate) replay_through: Revision,
    pub(crate) batches: mpsc::Sender<Vec<Event>>,
}

impl Watchers {
    /// For the newest revision that a store was opened with.
    pub(crate) fn starting_at(told: Revision) -> Self {
        Self { state: Mutex::new(State { told, ..State::default() }) }
    }

    /// From now on changes are held for the watcher, until [`Watchers::joined`]. `None` when the store is closed.
    pub(crate) fn join(&self, prefix: &str, after: Revision) -> Option<(Joining, Watch)> {
        let (batches, watch) = mpsc::channel(LAG);
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let held = Some(Vec::new());
        state.live.push(Watcher { ticket, prefix: prefix.to_owned(), after, batches: batches.clone(), held });
        Some((Joining { ticket, replay_through: state.told, batches }, watch))
    }

    /// The older changes are sent: the held ones follow, then live ones.
    pub(crate) fn joined(&self, ticket: u64) {
        let mut state = self.state.lock();
        let Some(at) = state.live.iter().position(|watcher| watcher.ticket == ticket) else { return };
        let watcher = &mut state.live[at];
        let held = watcher.held.take().unwrap_or_default();
        let told = held.into_iter().all(|batch| watcher.tell(batch));
        if !told {
            state.live.swap_remove(at);
        }
    }

    /// For a watcher whose older changes can't be read.
    pub(crate) fn leave(&self, ticket: u64) {
        self.state.lock().live.retain(|watcher| watcher.ticket != ticket);
    }

    pub(crate) fn tell(&self, events: &[Event]) {
        let Some(newest) = events.last() else { return };
        let mut state = self.state.lock();
        state.told = newest.revision;
        state.live.retain_mut(|watcher| {
            let batch: Vec<_> = events.iter().filter(|event| watcher.wants(event)).cloned().collect();
            if batch.is_empty() { !watcher.batches.is_closed() } else { watcher.tell(batch) }
        });
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.live.clear();
    }
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        event.revision > self.after && event.key.starts_with(&self.prefix)
    }

    /// False when the watcher is gone or too far behind.
    fn tell(&mut self, batch: Vec<Event>) -> bool {
        if let Some(held) = &mut self.held {
            held.push(batch);
            return held.len() <= LAG && !self.batches.is_closed();
        }
        match self.batches.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(prefix = self.prefix, "a watcher fell too far behind and is dropped");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: Revision) -> Event {
        Event { revision, key: "/a".into(), value: None, previous: None }
    }

    #[tokio::test]
    async fn a_writer_who_watches_from_its_own_write_does_not_hear_it() {
        let watchers = Watchers::starting_at(4);
        // Revision 5 is answered, and isn't told yet.
        let (joining, mut watch) = watchers.join("/", 5).expect("open");
        watchers.tell(&[event(5)]);
        watchers.tell(&[event(6)]);
        watchers.joined(joining.ticket);
        watchers.tell(&[event(7)]);
        assert_eq!(watch.recv().await, Some(vec![event(6)]));
        assert_eq!(watch.recv().await, Some(vec![event(7)]));
    }
}
