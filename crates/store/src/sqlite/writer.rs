//! The one thread that writes. It takes all writes that wait and commits them as one transaction: they share its sync.
//! Callers are answered after it, then watchers are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::{Shared, failed, tables};
use crate::{Condition, Error, Event, Result, Revision, Write};

/// Writes in one transaction at the most.
const BATCH: usize = 512;
/// Revisions that are cleaned at once, between two batches of writes.
const CLEANED_AT_ONCE: Revision = 500;

pub(super) enum Command {
    Write(Write, oneshot::Sender<Result<Revision>>),
    Compact(Revision, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<()>),
}

pub(super) struct Writer {
    connection: Connection,
    queue: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    newest: Revision,
    compacted: Revision,
    /// Up to here nothing compacted is left; behind `compacted` while a compaction runs.
    cleaned: Revision,
    compactions: Vec<oneshot::Sender<Result<()>>>,
}

type Waiting = (Write, oneshot::Sender<Result<Revision>>);

impl Writer {
    pub(super) fn new(connection: Connection, queue: mpsc::Receiver<Command>, shared: Arc<Shared>) -> Result<Self> {
        let step = "reading what is compacted";
        let compacted = tables::progress(&connection, "compacted").map_err(failed(step))?;
        let cleaned = tables::progress(&connection, "cleaned").map_err(failed(step))?;
        let newest = shared.newest.load(Ordering::Acquire);
        Ok(Self { connection, queue, shared, newest, compacted, cleaned, compactions: Vec::new() })
    }

    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let Some(mut next) = self.next() else { break };
            let mut batch = Vec::new();
            while let Some(command) = next {
                match command {
                    Command::Write(write, answer) => batch.push((write, answer)),
                    Command::Compact(through, answer) => self.start_compaction(through, answer),
                    Command::Close(answer) => closing = Some(answer),
                }
                let full = batch.len() == BATCH || closing.is_some();
                next = if full { None } else { self.queue.try_recv().ok() };
            }
            self.write(batch);
            if self.cleaned < self.compacted {
                self.clean();
            }
        }
        // New calls fail from here on; those that still wait find their answers dropped.
        self.queue.close();
        self.shared.watchers.close();
        self.shared.idle.lock().clear();
        drop(self.connection);
        if let Some(closed) = closing {
            // Whoever asked may have gone.
            let _ = closed.send(());
        }
    }

    /// Waits for a command; `Some(None)` when none waits but there is something to clean. `None` at the end.
    fn next(&mut self) -> Option<Option<Command>> {
        if self.cleaned == self.compacted {
            return self.queue.blocking_recv().map(Some);
        }
        match self.queue.try_recv() {
            Ok(command) => Some(Some(command)),
            Err(TryRecvError::Empty) => Some(None),
            Err(TryRecvError::Disconnected) => None,
        }
    }

    fn write(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(batch.iter().map(|(write, _)| write)) {
            Ok((outcomes, events)) => {
                if !events.is_empty() {
                    self.shared.newest.store(self.newest, Ordering::Release);
                }
                for ((_, answer), outcome) in batch.into_iter().zip(outcomes) {
                    // A caller that has gone needs no answer; its write holds all the same.
                    let _ = answer.send(outcome);
                }
                self.shared.watchers.tell(&events);
            }
            // One write may be too large for what is left of the disk: it shall not take the others with it.
            Err(_) if batch.len() > 1 => batch.into_iter().for_each(|waiting| self.write(vec![waiting])),
            Err(error) => {
                tracing::error!(%error, "a write failed");
                if let Some((_, answer)) = batch.into_iter().next() {
                    // As above.
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    /// One transaction: all writes whose conditions hold, or, after an error, none.
    fn commit<'w>(&mut self, writes: impl Iterator<Item = &'w Write>) -> Result<(Vec<Result<Revision>>, Vec<Event>)> {
        let mut newest = self.newest;
        let mut outcomes = Vec::new();
        let mut events = Vec::new();
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(failed("beginning a transaction"))?;
        for write in writes {
            let current = tables::latest(&transaction, &write.key).map_err(failed("reading a key"))?.entry();
            if !holds(write, current.as_ref().map(|entry| entry.revision)) {
                outcomes.push(Err(Error::Conflict { current }));
                continue;
            }
            newest += 1;
            let previous = current.as_ref().map_or(0, |entry| entry.revision);
            tables::insert(&transaction, newest, &write.key, write.value.as_deref(), previous)
                .map_err(failed("writing"))?;
            outcomes.push(Ok(newest));
            let (key, value) = (write.key.clone(), write.value.clone());
            events.push(Event { revision: newest, key, value, previous: current });
        }
        if events.is_empty() {
            return Ok((outcomes, events));
        }
        transaction.commit().map_err(failed("committing"))?;
        self.newest = newest;
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        Ok((outcomes, events))
    }

    /// From now on older revisions can't be read. Their rows go bit by bit; the answer comes with the last.
    fn start_compaction(&mut self, through: Revision, answer: oneshot::Sender<Result<()>>) {
        if through > self.compacted {
            if let Err(error) = tables::set_progress(&self.connection, "compacted", through) {
                // Whoever asked may have gone.
                let _ = answer.send(Err(failed("compacting")(error)));
                return;
            }
            self.compacted = through;
        }
        if self.cleaned == self.compacted {
            // As above.
            let _ = answer.send(Ok(()));
        } else {
            self.compactions.push(answer);
        }
    }

    fn clean(&mut self) {
        let through = self.compacted.min(self.cleaned + CLEANED_AT_ONCE);
        let mut clean = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tables::clean(&transaction, self.cleaned, through)?;
            tables::set_progress(&transaction, "cleaned", through)?;
            transaction.commit()
        };
        let outcome = clean();
        if outcome.is_ok() {
            self.cleaned = through;
        }
        if outcome.is_ok() && self.cleaned < self.compacted {
            return;
        }
        if let Err(error) = &outcome {
            // Tried again with the next compaction; until then the rows only take space.
            tracing::error!(%error, "old revisions can't be removed");
            self.compacted = self.cleaned;
        }
        let outcome = outcome.map_err(failed("compacting"));
        for answer in self.compactions.drain(..) {
            let told = match &outcome {
                Err(Error::Full) => Err(Error::Full),
                Err(error) => Err(Error::Backend { step: "compacting", message: error.to_string() }),
                Ok(()) => Ok(()),
            };
            // Whoever asked may have gone.
            let _ = answer.send(told);
        }
    }
}

/// Whether the write's condition holds for a key whose value was made by `current`. There must be something to delete.
fn holds(write: &Write, current: Option<Revision>) -> bool {
    match write.condition {
        Condition::Absent => current.is_none() && write.value.is_some(),
        Condition::Revision(revision) => current == Some(revision),
    }
}
