//! A store in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tug_store::{Condition, Entry, Error, Event, Page, Range, Result, Revision, Store, Watch, Write};

#[derive(Default)]
pub struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    now: BTreeMap<String, Entry>,
    history: Vec<Event>,
    watchers: Vec<(String, mpsc::Sender<Vec<Event>>)>,
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.0.lock().now.get(key).cloned())
    }

    async fn list(&self, prefix: &str, range: Range) -> Result<Page> {
        let state = self.0.lock();
        let newest = state.history.len() as u64;
        let at = range.at.unwrap_or(newest);
        let mut then: BTreeMap<&str, Entry> = BTreeMap::new();
        for event in state.history.iter().filter(|event| event.revision <= at && event.key.starts_with(prefix)) {
            match &event.value {
                Some(value) => {
                    let entry = Entry { key: event.key.clone(), value: value.clone(), revision: event.revision };
                    then.insert(&event.key, entry)
                }
                None => then.remove(event.key.as_str()),
            };
        }
        let mut entries: Vec<Entry> = then.into_values().collect();
        if let Some(after) = range.after {
            entries.retain(|entry| entry.key > after);
        }
        let limit = if range.limit == 0 { entries.len() } else { range.limit.min(entries.len()) };
        let remaining = (entries.len() - limit) as u64;
        entries.truncate(limit);
        Ok(Page { entries, revision: at, remaining })
    }

    async fn write(&self, write: Write) -> Result<Revision> {
        let mut state = self.0.lock();
        let current = state.now.get(&write.key).cloned();
        let holds = match write.condition {
            Condition::Absent => current.is_none(),
            Condition::Revision(revision) => current.as_ref().is_some_and(|entry| entry.revision == revision),
        };
        if !holds {
            return Err(Error::Conflict { current });
        }
        let revision = state.history.len() as u64 + 1;
        match &write.value {
            Some(value) => {
                let entry = Entry { key: write.key.clone(), value: value.clone(), revision };
                state.now.insert(write.key.clone(), entry);
            }
            None => {
                state.now.remove(&write.key);
            }
        }
        let event = Event { revision, key: write.key, value: write.value, previous: current };
        state.history.push(event.clone());
        state.watchers.retain(|(prefix, watcher)| {
            !event.key.starts_with(prefix.as_str()) || watcher.try_send(vec![event.clone()]).is_ok()
        });
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        let mut state = self.0.lock();
        let (sender, receiver) = mpsc::channel(10000);
        let missed: Vec<Event> =
            state.history.iter().filter(|e| e.revision > after && e.key.starts_with(prefix)).cloned().collect();
        if !missed.is_empty() {
            sender.try_send(missed).expect("room");
        }
        state.watchers.push((prefix.into(), sender));
        Ok(receiver)
    }

    fn revision(&self) -> Revision {
        self.0.lock().history.len() as u64
    }

    async fn compact(&self, _: Revision) -> Result<()> {
        Ok(())
    }
}
