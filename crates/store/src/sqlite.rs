//! The store in one SQLite database. A row is a revision: the key that it wrote, the value (none for a deletion) and the
//! revision that it replaced. One thread writes; readers see the last committed state without waiting for it.

mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::watchers::{Joining, Watchers};
use crate::{Entry, Error, Event, Page, Range, Result, Revision, Store, Watch, Write};
use writer::{Command, Writer};

/// Writes that wait for the writer; more wait in their callers.
const QUEUE: usize = 1024;
/// Listings that are read at once; more wait for their turn.
const READERS: usize = 4;
/// Changes that a starting watch reads at once.
const REPLAY_PAGE: usize = 500;

/// Cheap to clone; all clones are one store, which closes with the last of them.
#[derive(Clone)]
pub struct SqliteStore {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What the writer and the readers both know.
struct Shared {
    path: PathBuf,
    /// The newest committed revision.
    newest: AtomicU64,
    /// Transactions that were committed and synced since the store was opened.
    commits: AtomicU64,
    watchers: Watchers,
    readers: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens the database, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// If the file can't be made or read, isn't such a database, or was made by a newer Tug. The state that was committed
    /// last is recovered silently, whatever stopped its writer.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path.into(), |_| Ok(()))
    }

    fn open_with(path: PathBuf, tune: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<Self> {
        let connection = schema::open_for_writing(&path)?;
        tune(&connection).map_err(failed("setting up the database"))?;
        let newest = tables::newest(&connection).map_err(failed("reading the newest revision"))?;
        let shared = Arc::new(Shared {
            path,
            newest: AtomicU64::new(newest),
            commits: AtomicU64::new(0),
            watchers: Watchers::starting_at(newest),
            readers: Semaphore::new(READERS),
            idle: Mutex::default(),
        });
        let (commands, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(connection, queue, shared.clone())?;
        std::thread::Builder::new()
            .name("tug-store".into())
            .spawn(move || writer.run())
            .map_err(|error| Error::Backend { step: "starting the writer", message: error.to_string() })?;
        Ok(Self { commands, shared })
    }

    /// How many transactions have been synced since the store was opened; with many writers at once it is far below the
    /// number of writes.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Commits what is queued and ends all watches; later calls fail with [`Error::Closed`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _ = self.ask(Command::Close).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)
    }

    /// Runs `read` on a reader of the pool, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.commands.is_closed() {
            return Err(Error::Closed);
        }
        let _turn = self.shared.readers.acquire().await.map_err(|_| Error::Closed)?;
        let shared = self.shared.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let idle = shared.idle.lock().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => schema::open_for_reading(&shared.path)?,
            };
            let outcome = read(&mut connection);
            shared.idle.lock().push(connection);
            outcome
        });
        outcome.await.map_err(|error| Error::Backend { step: "reading", message: error.to_string() })?
    }

    /// Changes above `after` up to `through`, one page of them.
    async fn changes(&self, prefix: &str, after: Revision, through: Revision) -> Result<Vec<Event>> {
        let prefix = prefix.to_owned();
        self.read(move |connection| tables::changes(connection, &prefix, after, through, REPLAY_PAGE)).await
    }

    /// Sends a new watcher the changes that were committed before it came.
    async fn replay(self, prefix: String, joining: Joining, mut page: Vec<Event>) {
        let Joining { ticket, replay_through, batches } = joining;
        loop {
            let more = page.len() == REPLAY_PAGE;
            let last = page.last().map_or(0, |event| event.revision);
            if !page.is_empty() && batches.send(page).await.is_err() {
                return self.shared.watchers.leave(ticket);
            }
            if !more {
                return self.shared.watchers.joined(ticket);
            }
            page = match self.changes(&prefix, last, replay_through).await {
                Ok(page) => page,
                Err(error) => {
                    // The reader starts anew and gets the error as an answer.
                    tracing::warn!(prefix, %error, "a watch can't be read on");
                    return self.shared.watchers.leave(ticket);
                }
            };
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let key = key.to_owned();
        self.read(move |connection| {
            tables::latest(connection, &key).map(tables::Latest::entry).map_err(failed("reading a key"))
        })
        .await
    }

    async fn list(&self, prefix: &str, range: Range) -> Result<Page> {
        let newest = self.revision();
        let at = range.at.unwrap_or(newest);
        if at > newest {
            return Err(Error::Future { asked: at, newest });
        }
        let latest_asked = range.at.is_none();
        let prefix = prefix.to_owned();
        self.read(move |connection| {
            // A compaction may have passed the revision that was the newest a moment ago.
            match tables::list(connection, &prefix, at, &range) {
                Err(Error::Compacted { oldest, .. }) if latest_asked => {
                    tables::list(connection, &prefix, oldest, &range)
                }
                other => other,
            }
        })
        .await
    }

    async fn write(&self, write: Write) -> Result<Revision> {
        self.ask(|answer| Command::Write(write, answer)).await?
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        let newest = self.revision();
        if after > newest {
            return Err(Error::Future { asked: after, newest });
        }
        let (joining, watch) = self.shared.watchers.join(prefix, after).ok_or(Error::Closed)?;
        match self.changes(prefix, after, joining.replay_through).await {
            Ok(page) => {
                // Ends with its work, which is bounded, or with its reader.
                tokio::spawn(self.clone().replay(prefix.to_owned(), joining, page));
                Ok(watch)
            }
            Err(error) => {
                self.shared.watchers.leave(joining.ticket);
                Err(error)
            }
        }
    }

    fn revision(&self) -> Revision {
        self.shared.newest.load(Ordering::Acquire)
    }

    async fn compact(&self, through: Revision) -> Result<()> {
        let newest = self.revision();
        if through > newest {
            return Err(Error::Future { asked: through, newest });
        }
        self.ask(|answer| Command::Compact(through, answer)).await?
    }
}

/// Names the step that failed.
fn failed(step: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Error::Full,
        _ => Error::Backend { step, message: error.to_string() },
    }
}

fn cannot_open(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| match error.kind() {
        std::io::ErrorKind::StorageFull => Error::Full,
        _ => Error::Backend { step: "opening the database", message: format!("{}: {error}", path.display()) },
    }
}
