//! Those who follow a kind. Each has a bounded queue; who doesn't keep up is cut off and starts anew.

use std::sync::Arc;

use tokio::sync::mpsc;
use tug_api::{Kind, Object};
use tug_store::Revision;

use super::select::Select;
use super::{Cache, Change};
use crate::status::Status;

/// Events that a watcher may be behind before it is cut off.
const QUEUE: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    Added,
    Modified,
    Deleted,
}

/// What one watcher sees of a change.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    pub kind: WatchKind,
    pub object: Arc<Object>,
}

/// A place in the stream of changes of a kind.
pub struct Subscription {
    /// What was there at `revision`, or happened between the revision asked for and `revision`.
    pub first: Vec<WatchEvent>,
    /// Everything after `revision`. Ends when its reader falls behind.
    pub events: mpsc::Receiver<WatchEvent>,
    pub revision: Revision,
}

pub(super) struct Watcher {
    select: Select,
    /// What the client knows already, or will: changes up to here aren't told.
    after: Revision,
    queue: mpsc::Sender<WatchEvent>,
}

// === impl Watcher ===

impl Watcher {
    /// False when the watcher is gone or too slow.
    pub(super) fn tell(&self, kind: &Kind, change: &Change) -> bool {
        let event = if change.revision > self.after { seen(kind, &self.select, change) } else { None };
        let Some(event) = event else { return !self.queue.is_closed() };
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::info!(plural = kind.plural, "a watch was too slow and has been cut off");
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// An object that begins or ceases to match appears or goes away for this watcher.
fn seen(kind: &Kind, select: &Select, change: &Change) -> Option<WatchEvent> {
    let matches = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|o| select.matches(kind, o));
    let (was, is) = (matches(&change.old), matches(&change.new));
    let (event, object) = match (was, is) {
        (false, false) => return None,
        (false, true) => (WatchKind::Added, change.new.clone()?),
        (true, true) => (WatchKind::Modified, change.new.clone()?),
        (true, false) => (WatchKind::Deleted, change.gone()?),
    };
    Some(WatchEvent { kind: event, object })
}

impl Cache {
    /// Follows a kind: from the changes after `after`, or from the objects as they are when `None`.
    ///
    /// # Errors
    /// 410 if the changes after that revision are no longer held.
    pub fn subscribe(
        &self,
        kind: &'static Kind,
        select: Select,
        after: Option<Revision>,
    ) -> Result<Subscription, Status> {
        let (queue, events) = mpsc::channel(QUEUE);
        let mut state = self.state.write();
        let revision = state.applied;
        let of_kind = state.of_mut(kind).ok_or_else(Status::no_such_path)?;
        let first = match after {
            Some(after) => {
                if after < of_kind.ring_after {
                    return Err(Status::too_old(after, of_kind.ring_after));
                }
                let missed = of_kind.ring.iter().filter(|change| change.revision > after);
                missed.filter_map(|change| seen(of_kind.kind, &select, change)).collect()
            }
            None => {
                let objects = of_kind.range(&select.namespace, None).filter(|o| select.matches(of_kind.kind, o));
                objects.map(|object| WatchEvent { kind: WatchKind::Added, object: object.clone() }).collect()
            }
        };
        of_kind.watchers.push(Watcher { select, after: after.unwrap_or(revision), queue });
        Ok(Subscription { first, events, revision })
    }
}
