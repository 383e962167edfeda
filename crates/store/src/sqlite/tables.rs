//! Questions to the tables. Each that asks more than once runs in a transaction of its own, so that it sees one state.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failed;
use crate::{Entry, Error, Event, Page, Range, Result, Revision};

/// What a key's newest row says.
pub(super) enum Latest {
    /// It was never written, or that is forgotten.
    Unknown,
    Deleted,
    Is(Entry),
}

impl Latest {
    pub(super) fn entry(self) -> Option<Entry> {
        match self {
            Self::Is(entry) => Some(entry),
            Self::Unknown | Self::Deleted => None,
        }
    }
}

/// SQLite's integers are signed. A revision past that range names no row, so that the largest stands for it.
pub(super) fn sql(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn revision_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

/// The newest revision ever given. Compaction may have removed its row.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Revision> {
    let question = "SELECT max(ifnull((SELECT max(revision) FROM rows), 0), (SELECT max(revision) FROM progress))";
    connection.query_row(question, [], |row| revision_in(row, 0))
}

pub(super) fn progress(connection: &Connection, name: &str) -> rusqlite::Result<Revision> {
    let mut question = connection.prepare_cached("SELECT revision FROM progress WHERE name = ?")?;
    question.query_row([name], |row| revision_in(row, 0))
}

pub(super) fn set_progress(connection: &Connection, name: &str, revision: Revision) -> rusqlite::Result<()> {
    let mut change = connection.prepare_cached("UPDATE progress SET revision = max(revision, ?2) WHERE name = ?1")?;
    change.execute(params![name, sql(revision)]).map(drop)
}

pub(super) fn latest(connection: &Connection, key: &str) -> rusqlite::Result<Latest> {
    let question = "SELECT revision, value FROM rows WHERE key = ? ORDER BY revision DESC LIMIT 1";
    let row = connection
        .prepare_cached(question)?
        .query_row([key.as_bytes()], |row| Ok((revision_in(row, 0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
        .optional()?;
    Ok(match row {
        None => Latest::Unknown,
        Some((_, None)) => Latest::Deleted,
        Some((revision, Some(value))) => Latest::Is(Entry { key: key.to_owned(), value: value.into(), revision }),
    })
}

pub(super) fn insert(
    connection: &Connection,
    revision: Revision,
    key: &str,
    value: Option<&[u8]>,
    previous: Revision,
) -> rusqlite::Result<()> {
    let mut change = connection.prepare_cached("INSERT INTO rows VALUES (?, ?, ?, ?)")?;
    change.execute(params![sql(revision), key.as_bytes(), value, sql(previous)]).map(drop)
}

/// Keys from ?1 to before ?2. A row is part of the state at revision ?3 if it is its key's newest up to there, and no
/// deletion.
const IN_STATE: &str = "FROM rows AS r WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND value NOT NULL
    AND NOT EXISTS (SELECT 1 FROM rows AS s WHERE s.key = r.key AND s.revision > r.revision AND s.revision <= ?3)";

pub(super) fn list(connection: &mut Connection, prefix: &str, at: Revision, range: &Range) -> Result<Page> {
    let transaction = connection.transaction().map_err(failed("listing"))?;
    check_kept(&transaction, at)?;
    let start = match &range.after {
        Some(after) if after.as_str() >= prefix => behind(after),
        _ => prefix.as_bytes().to_vec(),
    };
    let end = end_of(prefix);
    let most = if range.limit == 0 { i64::MAX } else { i64::try_from(range.limit).unwrap_or(i64::MAX) };
    let read = || -> rusqlite::Result<(Vec<Entry>, u64)> {
        let text = format!("SELECT key, value, revision {IN_STATE} ORDER BY key LIMIT ?4");
        let mut question = transaction.prepare_cached(&text)?;
        let given = params![start, end, sql(at), most];
        let entries: Vec<_> = question.query_map(given, |row| entry(row, 0))?.collect::<rusqlite::Result<_>>()?;
        let (Some(last), true) = (entries.last(), entries.len() == range.limit) else { return Ok((entries, 0)) };
        let mut count = transaction.prepare_cached(&format!("SELECT count(*) {IN_STATE}"))?;
        let remaining = count.query_row(params![behind(&last.key), end, sql(at)], |row| revision_in(row, 0))?;
        Ok((entries, remaining))
    };
    let (entries, remaining) = read().map_err(failed("listing"))?;
    Ok(Page { entries, revision: at, remaining })
}

/// Changes of revisions above `after` up to `through`, the first `most` of them.
pub(super) fn changes(
    connection: &mut Connection,
    prefix: &str,
    after: Revision,
    through: Revision,
    most: usize,
) -> Result<Vec<Event>> {
    let transaction = connection.transaction().map_err(failed("reading changes"))?;
    check_kept(&transaction, after)?;
    let question = "SELECT r.revision, r.key, r.value, p.key, p.value, p.revision
        FROM rows AS r LEFT JOIN rows AS p ON p.revision = r.previous
        WHERE r.revision > ?1 AND r.revision <= ?2 AND r.key >= ?3 AND r.key < ?4 ORDER BY r.revision LIMIT ?5";
    let read = || -> rusqlite::Result<Vec<Event>> {
        let mut question = transaction.prepare_cached(question)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let given = params![sql(after), sql(through), prefix.as_bytes(), end_of(prefix), most];
        question.query_map(given, event)?.collect()
    };
    read().map_err(failed("reading changes"))
}

/// Removes what compaction made superfluous of rows above `after` up to `through`: what they replaced, and they
/// themselves where they are deletions.
pub(super) fn clean(connection: &Connection, after: Revision, through: Revision) -> rusqlite::Result<()> {
    let replaced = "DELETE FROM rows WHERE revision IN
        (SELECT previous FROM rows WHERE revision > ? AND revision <= ? AND previous > 0)";
    connection.prepare_cached(replaced)?.execute([sql(after), sql(through)])?;
    let deletions = "DELETE FROM rows WHERE revision > ? AND revision <= ? AND value IS NULL";
    connection.prepare_cached(deletions)?.execute([sql(after), sql(through)])?;
    Ok(())
}

fn check_kept(connection: &Connection, asked: Revision) -> Result<()> {
    let oldest = progress(connection, "compacted").map_err(failed("reading what is compacted"))?;
    if asked < oldest { Err(Error::Compacted { asked, oldest }) } else { Ok(()) }
}

/// The first bytes behind all keys with this prefix. No byte of UTF-8 is 0xff, so that adding one never overflows.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0xff),
    }
    end
}

/// The first bytes behind `key`.
fn behind(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

fn key_in(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, error.into()))
}

/// Key, value and revision from this column on.
fn entry(row: &Row<'_>, first: usize) -> rusqlite::Result<Entry> {
    let value: Vec<u8> = row.get(first + 1)?;
    Ok(Entry { key: key_in(row, first)?, value: value.into(), revision: revision_in(row, first + 2)? })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let replaced: Option<i64> = row.get(5)?;
    Ok(Event {
        revision: revision_in(row, 0)?,
        key: key_in(row, 1)?,
        value: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
        previous: replaced.map(|_| entry(row, 3)).transpose()?,
    })
}
