//! An ordered key space with revisions, conditional writes and watches.
//!
//! The API server is the only user. Values are opaque bytes. Revisions are those of the whole store, one a
//! write, starting at 1, never reused, so that they serve as Kubernetes resource versions.
#![forbid(unsafe_code)]

mod sqlite;
mod watchers;

pub use sqlite::SqliteStore;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub type Revision = u64;

/// A key's value at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    /// The revision of the write that made this value.
    pub revision: Revision,
}

/// One write of one key.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub condition: Condition,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key doesn't exist.
    Absent,
    /// The key's value was made by exactly this revision.
    Revision(Revision),
}

/// A part of a listing.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// List the state as it was at this revision; the newest when `None`.
    pub at: Option<Revision>,
    /// Start behind this key.
    pub after: Option<String>,
    /// Number of entries at the most; 0 for all.
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The revision that the entries were read at.
    pub revision: Revision,
    /// Entries behind the last one; 0 when this is the last page.
    pub remaining: u64,
}

/// A change as watchers see it. All changes of one committed transaction arrive in order of revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: String,
    /// `None`: deleted.
    pub value: Option<Bytes>,
    /// The value before, where there was one.
    pub previous: Option<Entry>,
}

/// Events of one prefix in order of revision, in batches of what was committed together. Ends when the reader falls so far behind that its
/// queue is full (it then starts anew from a listing), or when the store closes.
pub type Watch = mpsc::Receiver<Vec<Event>>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The condition didn't hold; with the entry as it is.
    #[error("the key has changed or exists already")]
    Conflict { current: Option<Entry> },
    /// The revision asked for is no longer kept.
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is in the future; the newest is {newest}")]
    Future { asked: Revision, newest: Revision },
    #[error("the disk is full")]
    Full,
    #[error("store is closed")]
    Closed,
    #[error("{step}: {message}")]
    Backend { step: &'static str, message: String },
}

pub type Result<T> = std::result::Result<T, Error>;

/// The door that SQLite implements here and etcd will implement later.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Entries whose keys start with `prefix`, in order of key.
    async fn list(&self, prefix: &str, range: Range) -> Result<Page>;

    /// Answers after the transaction that holds the write is synced; returns the write's revision.
    async fn write(&self, write: Write) -> Result<Revision>;

    /// Every change under `prefix` with a revision above `after`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch>;

    /// The newest committed revision.
    fn revision(&self) -> Revision;

    /// Forgets values that were overwritten at or before `through`.
    async fn compact(&self, through: Revision) -> Result<()>;
}
