//! The database file: how it is opened, its tables, and the settings that make a commit mean "on disk".

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{cannot_open, failed};
use crate::{Error, Result};

/// Kept in the file's `user_version`.
const VERSION: i64 = 1;

/// `value` is null for a deletion; `previous` is the revision of the value that the row replaced, 0 if there was none.
/// Keys are blobs so that they are ordered by their bytes. `progress` has `compacted`, below which the past is
/// forgotten, and `cleaned`, up to which forgotten rows are gone.
const TABLES: &str = "
    CREATE TABLE rows (revision INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, previous INTEGER NOT NULL) STRICT;
    CREATE UNIQUE INDEX rows_by_key ON rows (key, revision);
    CREATE TABLE progress (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO progress VALUES ('compacted', 0), ('cleaned', 0);
    PRAGMA user_version = 1;
";

/// `synchronous = FULL`: in WAL mode, each commit is synced before it returns. The cache is small because the API server
/// keeps all objects itself.
const WRITER: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -2000;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA journal_size_limit = 8388608;
";

const READER: &str = "
    PRAGMA query_only = ON;
    PRAGMA cache_size = -512;
    PRAGMA mmap_size = 0;
";

pub(super) fn open_for_writing(path: &Path) -> Result<Connection> {
    // Made here for its mode, which SQLite gives to the files beside it too.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(cannot_open(path))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(cannot_open(path))?;
    drop(file);
    let mut connection = Connection::open_with_flags(path, flags()).map_err(failed("opening the database"))?;
    set_up(&mut connection).map_err(failed("setting up the database"))?;
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("reading the database's version"))?;
    if version != VERSION {
        let message = format!("{} has version {version}, this Tug reads {VERSION}", path.display());
        return Err(Error::Backend { step: "opening the database", message });
    }
    Ok(connection)
}

pub(super) fn open_for_reading(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags()).map_err(failed("opening a reader"))?;
    connection.busy_timeout(BUSY).map_err(failed("opening a reader"))?;
    connection.execute_batch(READER).map_err(failed("opening a reader"))?;
    Ok(connection)
}

/// Readers meet a lock only while the log is being recovered or reset.
const BUSY: Duration = Duration::from_secs(10);

fn flags() -> OpenFlags {
    // Each connection is used by one thread at a time.
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.execute_batch(WRITER)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let made: bool = transaction.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))?;
    if !made {
        transaction.execute_batch(TABLES)?;
    }
    transaction.commit()
}
