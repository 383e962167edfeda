use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::SqliteStore;
use crate::{Condition, Entry, Error, Event, Range, Result, Revision, Store, Watch, Write};

fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(directory.path().join("state.db")).expect("opens")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn put(key: &str, value: &str, condition: Condition) -> Write {
    Write { key: key.into(), value: Some(Bytes::copy_from_slice(value.as_bytes())), condition }
}

fn delete(key: &str, revision: Revision) -> Write {
    Write { key: key.into(), value: None, condition: Condition::Revision(revision) }
}

fn entry(key: &str, value: &str, revision: Revision) -> Entry {
    Entry { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), revision }
}

async fn all(store: &SqliteStore, prefix: &str) -> Vec<Entry> {
    store.list(prefix, Range::default()).await.expect("lists").entries
}

#[tokio::test]
async fn a_write_happens_if_its_condition_holds() {
    use Condition::{Absent, Revision};
    /// Revision of the write or of what is in its way (0: nothing is).
    type Outcome = std::result::Result<u64, u64>;
    let steps: [(Write, Outcome); 10] = [
        (put("/a", "1", Revision(1)), Err(0)),
        (put("/a", "1", Absent), Ok(1)),
        (put("/a", "2", Absent), Err(1)),
        (put("/a", "2", Revision(7)), Err(1)),
        (put("/a", "2", Revision(1)), Ok(2)),
        (delete("/a", 1), Err(2)),
        (delete("/a", 2), Ok(3)),
        (delete("/a", 3), Err(0)),
        (put("/a", "3", Revision(2)), Err(0)),
        (put("/a", "3", Absent), Ok(4)),
    ];
    let directory = directory();
    let store = open(&directory);
    for (index, (write, expected)) in steps.into_iter().enumerate() {
        let outcome = match store.write(write).await {
            Ok(revision) => Ok(revision),
            Err(Error::Conflict { current }) => Err(current.map_or(0, |entry| entry.revision)),
            Err(other) => panic!("step {index}: {other}"),
        };
        assert_eq!(outcome, expected, "step {index}");
    }
    assert_eq!(store.get("/a").await.expect("reads"), Some(entry("/a", "3", 4)));
    assert_eq!(store.get("/b").await.expect("reads"), None);
}

#[tokio::test]
async fn a_listing_goes_on_where_it_stopped_though_the_state_has_changed() {
    let directory = directory();
    let store = open(&directory);
    for key in ["/a/3", "/a/1", "/b/1", "/a/2", "/a0"] {
        store.write(put(key, "old", Condition::Absent)).await.expect("writes");
    }
    let range = Range { limit: 2, ..Range::default() };
    let first = store.list("/a/", range.clone()).await.expect("lists");
    assert_eq!(first.entries, [entry("/a/1", "old", 2), entry("/a/2", "old", 4)]);
    assert_eq!((first.revision, first.remaining), (5, 1));

    store.write(delete("/a/3", 1)).await.expect("deletes");
    store.write(put("/a/4", "new", Condition::Absent)).await.expect("writes");
    let range = Range { at: Some(first.revision), after: Some("/a/2".into()), ..range };
    let second = store.list("/a/", range).await.expect("lists");
    assert_eq!(second.entries, [entry("/a/3", "old", 1)]);
    assert_eq!((second.revision, second.remaining), (5, 0));
}

#[tokio::test]
async fn revisions_that_are_not_kept_or_not_yet_made_are_refused() {
    let directory = directory();
    let store = open(&directory);
    store.write(put("/a", "1", Condition::Absent)).await.expect("writes");
    store.write(put("/a", "2", Condition::Revision(1))).await.expect("writes");
    store.write(put("/b", "1", Condition::Absent)).await.expect("writes");
    store.write(delete("/b", 3)).await.expect("deletes");
    store.compact(4).await.expect("compacts");
    let at = |revision| Range { at: Some(revision), ..Range::default() };

    assert!(matches!(store.list("/", at(3)).await, Err(Error::Compacted { asked: 3, oldest: 4 })));
    assert!(matches!(store.watch("/", 3).await, Err(Error::Compacted { asked: 3, oldest: 4 })));
    assert!(matches!(store.list("/", at(5)).await, Err(Error::Future { asked: 5, newest: 4 })));
    assert!(matches!(store.watch("/", 5).await, Err(Error::Future { asked: 5, newest: 4 })));
    assert!(matches!(store.compact(5).await, Err(Error::Future { asked: 5, newest: 4 })));
    assert_eq!(store.list("/", at(4)).await.expect("lists").entries, [entry("/a", "2", 2)]);
    store.close().await;

    let store = open(&directory);
    assert_eq!(store.revision(), 4, "though the row of revision 4 is gone");
    assert!(matches!(store.list("/", at(3)).await, Err(Error::Compacted { asked: 3, oldest: 4 })));
    assert_eq!(store.write(put("/b", "2", Condition::Absent)).await.expect("writes"), 5);
}

#[tokio::test]
async fn compaction_leaves_no_forgotten_row() {
    let directory = directory();
    let store = open(&directory);
    let mut revision = store.write(put("/a", "0", Condition::Absent)).await.expect("writes");
    for round in 1..1200 {
        revision = store.write(put("/a", &round.to_string(), Condition::Revision(revision))).await.expect("writes");
    }
    store.compact(revision).await.expect("compacts");
    store.close().await;
    let connection = rusqlite::Connection::open(directory.path().join("state.db")).expect("opens");
    let rows: i64 = connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).expect("counts");
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn writes_that_wait_together_share_a_sync() {
    let directory = directory();
    let store = open(&directory);
    let write = |n: usize| {
        let store = store.clone();
        tokio::spawn(async move { store.write(put(&format!("/{n}"), "x", Condition::Absent)).await })
    };
    let mut revisions = Vec::new();
    for written in (0..400).map(write).collect::<Vec<_>>() {
        revisions.push(written.await.expect("no panic").expect("writes"));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    assert!(store.commits() < 200, "{} commits for 400 writes", store.commits());
}

#[tokio::test]
async fn a_full_disk_refuses_a_write_whole_and_keeps_the_rest() {
    let directory = directory();
    let path = directory.path().join("state.db");
    let few_pages = |connection: &rusqlite::Connection| connection.pragma_update(None, "max_page_count", 20);
    let store = SqliteStore::open_with(path, few_pages).expect("opens");
    store.write(put("/a", "small", Condition::Absent)).await.expect("writes");
    let large = "x".repeat(200_000);
    let (refused, kept) = tokio::join!(
        store.write(put("/large", &large, Condition::Absent)),
        store.write(put("/small", "small", Condition::Absent)),
    );
    assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
    assert_eq!(kept.expect("there is room for it"), 2);
    assert_eq!(all(&store, "/").await, [entry("/a", "small", 1), entry("/small", "small", 2)]);
}

/// Reads as much of a watch as takes it to `through`.
async fn hear(watch: &mut Watch, through: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision < through) {
        events.extend(watch.recv().await.expect("the watch goes on"));
    }
    events
}

#[tokio::test]
async fn a_watch_has_no_gap_and_no_repeat_while_others_write() {
    let directory = directory();
    let store = open(&directory);
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        let mut held = 0;
        for n in 0..1500 {
            let condition = if held == 0 { Condition::Absent } else { Condition::Revision(held) };
            held = writer.write(put("/a/x", &n.to_string(), condition)).await.expect("writes");
            writer.write(put(&format!("/b/{n}"), "", Condition::Absent)).await.expect("writes");
        }
        held
    });
    let mut watches = Vec::new();
    while !writing.is_finished() {
        let after = store.revision();
        for after in [0, after] {
            watches.push((after, store.watch("/a/", after).await.expect("watches")));
        }
        tokio::task::yield_now().await;
        if watches.len() > 40 {
            break;
        }
    }
    // Watchers are read while the writing goes on, so that none lags.
    let reading = watches
        .into_iter()
        .map(|(after, mut watch)| tokio::spawn(async move { (after, hear(&mut watch, 2999).await) }));
    for heard in reading.collect::<Vec<_>>() {
        let (after, events) = heard.await.expect("no panic");
        let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
        let expected: Vec<_> = (1..3000).step_by(2).filter(|revision| *revision > after).collect();
        assert_eq!(revisions, expected, "after {after}");
        for pair in events.windows(2) {
            let replaced = pair[1].previous.as_ref().expect("it was written before");
            assert_eq!((Some(&replaced.value), replaced.revision), (pair[0].value.as_ref(), pair[0].revision));
        }
    }
    assert_eq!(writing.await.expect("no panic"), 2999);
}

#[tokio::test]
async fn a_watcher_that_never_reads_is_dropped() {
    let directory = directory();
    let store = open(&directory);
    let mut watch = store.watch("/", 0).await.expect("watches");
    for n in 0..1100 {
        store.write(put(&format!("/{n}"), "", Condition::Absent)).await.expect("writes");
    }
    let mut heard = 0;
    while watch.recv().await.is_some() {
        heard += 1;
    }
    assert!((1..1100).contains(&heard), "{heard}");
}

#[tokio::test]
async fn a_closed_store_ends_watches_and_refuses_work() {
    let directory = directory();
    let store = open(&directory);
    let mut watch = store.watch("/", 0).await.expect("watches");
    store.close().await;
    assert_eq!(watch.recv().await, None);
    assert!(matches!(store.write(put("/a", "", Condition::Absent)).await, Err(Error::Closed)));
    assert!(matches!(store.get("/a").await, Err(Error::Closed)));
    assert!(matches!(store.watch("/", 0).await, Err(Error::Closed)));
}

#[tokio::test]
async fn the_files_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let store = open(&directory);
    store.write(put("/a", "secret", Condition::Absent)).await.expect("writes");
    for file in std::fs::read_dir(directory.path()).expect("lists") {
        let file = file.expect("lists");
        let mode = file.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

/// Copies the database with the log as a crash may have left it: `log_bytes` of it.
fn crashed_copy(from: &Path, to: &Path, log: &[u8], log_bytes: usize) {
    std::fs::copy(from.join("state.db"), to.join("state.db")).expect("copies");
    std::fs::write(to.join("state.db-wal"), &log[..log_bytes]).expect("writes");
}

#[test]
fn a_crash_within_a_transaction_keeps_exactly_what_was_acknowledged_before() {
    let runtime = Runtime::new().expect("a runtime");
    let directory = directory();
    let store = open(&directory);
    let log = directory.path().join("state.db-wal");
    let (before, log_before) = runtime.block_on(async {
        store.write(put("/a", "1", Condition::Absent)).await.expect("writes");
        store.write(put("/b", "1", Condition::Absent)).await.expect("writes");
        store.write(put("/a", "2", Condition::Revision(1))).await.expect("writes");
        (all(&store, "/").await, std::fs::metadata(&log).expect("is there").len())
    });
    let after = runtime.block_on(async {
        store.write(delete("/b", 2)).await.expect("deletes");
        all(&store, "/").await
    });
    let log = std::fs::read(&log).expect("reads");
    let log_before = usize::try_from(log_before).expect("small");
    assert!(log_before < log.len(), "the last transaction is in the log");

    // Thousands of copies, each opened with all its syncs: in memory where there is such a place.
    let memory = Path::new("/dev/shm");
    let copies = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let copies = copies.expect("a temporary directory");
    for bytes in log_before..=log.len() {
        let place = copies.path().join(bytes.to_string());
        std::fs::create_dir(&place).expect("makes a directory");
        crashed_copy(directory.path(), &place, &log, bytes);
        let copy = SqliteStore::open(place.join("state.db")).expect("opens");
        let (state, newest) = if bytes < log.len() { (&before, 3) } else { (&after, 4) };
        assert_eq!(copy.revision(), newest, "{bytes} bytes of {}", log.len());
        runtime.block_on(async {
            assert_eq!(&all(&copy, "/").await, state, "{bytes} bytes of {}", log.len());
            copy.close().await;
        });
        std::fs::remove_dir_all(&place).expect("removes");
    }
}

/// A write as a client would make it: with the right condition, or, if `wrong`, with one that can't hold.
#[derive(Clone, Debug)]
struct Step {
    key: u8,
    value: Option<u8>,
    wrong: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (0u8..6, proptest::option::weighted(0.7, any::<u8>()), proptest::bool::weighted(0.2))
        .prop_map(|(key, value, wrong)| Step { key, value, wrong })
}

type Model = BTreeMap<String, (Bytes, Revision)>;

fn entries(model: &Model) -> Vec<Entry> {
    let entry = |(key, (value, revision)): (&String, &(Bytes, Revision))| Entry {
        key: key.clone(),
        value: value.clone(),
        revision: *revision,
    };
    model.iter().map(entry).collect()
}

fn apply(model: &mut Model, event: &Event) {
    let replaced = match &event.value {
        Some(value) => model.insert(event.key.clone(), (value.clone(), event.revision)),
        None => model.remove(&event.key),
    };
    let previous = event.previous.as_ref().map(|entry| (entry.value.clone(), entry.revision));
    assert_eq!(replaced, previous, "at revision {}", event.revision);
}

/// Runs the steps; returns the state after each revision, 0 first.
async fn run(store: &SqliteStore, steps: &[Step]) -> Result<Vec<Model>> {
    let mut states = vec![Model::new()];
    for Step { key, value, wrong } in steps {
        let key = format!("/{key}");
        let mut model = states.last().expect("at least one").clone();
        let current = model.get(&key).map(|(_, revision)| *revision);
        let condition = match (current, wrong) {
            (None, false) => Condition::Absent,
            (Some(revision), false) => Condition::Revision(revision),
            (None, true) => Condition::Revision(1),
            (Some(_), true) => Condition::Absent,
        };
        let value = value.map(|byte| Bytes::from(vec![byte]));
        let possible = !wrong && (current.is_some() || value.is_some());
        match store.write(Write { key: key.clone(), value: value.clone(), condition }).await {
            Ok(revision) => {
                assert!(possible, "{key} {condition:?} was written");
                assert_eq!(revision, states.len() as u64);
                match value {
                    Some(value) => model.insert(key, (value, revision)),
                    None => model.remove(&key),
                };
                states.push(model);
            }
            Err(Error::Conflict { current: told }) => {
                assert!(!possible, "{key} {condition:?} was refused");
                assert_eq!(told.map(|entry| entry.revision), current);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(states)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The state at each revision is the model's, and the state at any revision plus the changes since is the newest
    /// state: before a compaction, after one, and after a restart.
    #[test]
    fn the_past_is_as_it_was(steps in proptest::collection::vec(step(), 1..60), compacted in 0.0..1.0) {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let directory = directory();
            let store = open(&directory);
            let states = run(&store, &steps).await.expect("writes");
            check_past(&store, &states, 0).await;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let oldest = ((states.len() - 1) as f64 * compacted) as usize;
            store.compact(oldest as u64).await.expect("compacts");
            check_past(&store, &states, oldest).await;
            store.close().await;
            check_past(&open(&directory), &states, oldest).await;
        });
    }
}

async fn check_past(store: &SqliteStore, states: &[Model], oldest: usize) {
    let newest = states.len() - 1;
    assert_eq!(store.revision(), newest as u64);
    for (revision, state) in states.iter().enumerate().skip(oldest) {
        let range = Range { at: Some(revision as u64), ..Range::default() };
        let page = store.list("/", range).await.expect("lists");
        assert_eq!(page.entries, entries(state), "at {revision}");
        let mut model = state.clone();
        if revision < newest {
            let mut watch = store.watch("/", revision as u64).await.expect("watches");
            hear(&mut watch, newest as u64).await.iter().for_each(|event| apply(&mut model, event));
        }
        assert_eq!(model, states[newest], "from {revision}");
    }
}
