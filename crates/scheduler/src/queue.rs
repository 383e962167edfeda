//! Pods that wait: for their turn, for their back-off to end, or for something to happen that may help them.
//!
//! Upstream's scheduling queue with its defaults of 1.36. A pod is popped and comes back, if at all, under one lock with
//! the changes of the cluster, so none falls between a pod's trial and its return. Times come from the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::change::Change;
use crate::framework::{Framework, PluginSet};
use crate::plugins::priority_sort::Turn;
use crate::pod::PodInfo;

/// Pods whose back-offs end in one window are tried in the order of their turns.
const WINDOW: Duration = Duration::from_secs(1);
/// A pod that nothing helped for so long is tried again all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// How often such pods are looked for.
const FLUSH: Duration = Duration::from_secs(30);

/// How long a pod that failed rests: doubled with each failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

/// Holds each waiting pod once, so it is bounded by the number of pods.
pub struct Queue {
    framework: Arc<Framework>,
    backoff: Backoff,
    /// Windows are counted from here.
    epoch: Instant,
    entries: HashMap<u64, Entry>,
    by_uid: HashMap<String, u64>,
    next_ticket: u64,
    active: BTreeSet<Turn>,
    /// By the beginning of the window in which the back-off ends. Popped early when nothing else waits.
    resting: BTreeSet<(Instant, Turn)>,
    /// As `resting`, after errors; never popped early: the API needs the rest.
    recovering: BTreeSet<(Instant, Turn)>,
    /// Turned away, by the plugins that did it.
    waiting: BTreeMap<PluginSet, BTreeSet<u64>>,
    flushed: Instant,
}

struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    turn: Turn,
    turned_away: PluginSet,
    /// The plugin that keeps it out of the queue, if any.
    gate: Option<usize>,
    failures: u32,
    errors: u32,
    /// Something of the pod is being written, which the next write must not overtake.
    writing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Resting(Instant),
    Recovering(Instant),
    Waiting,
    /// Popped: on trial, or on its way to its node.
    Out,
    /// Due, but for what is being written.
    Held,
}

impl Queue {
    pub fn new(framework: Arc<Framework>, backoff: Backoff, now: Instant) -> Self {
        Self {
            framework,
            backoff,
            epoch: now,
            entries: HashMap::new(),
            by_uid: HashMap::new(),
            next_ticket: 0,
            active: BTreeSet::new(),
            resting: BTreeSet::new(),
            recovering: BTreeSet::new(),
            waiting: BTreeMap::new(),
            flushed: now,
        }
    }

    /// A pod that needs a node, as it is now; returns what was known of it.
    pub fn put(&mut self, pod: Arc<PodInfo>, now: Instant) -> Option<Arc<PodInfo>> {
        let Some(ticket) = self.by_uid.get(&pod.uid).copied() else {
            self.add(pod, now);
            return None;
        };
        let entry = self.entry(ticket);
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        if entry.place == Place::Waiting {
            let change = Change::pod(Some(old.clone()), Some(pod));
            if self.worth_another_try(ticket, &change) {
                self.wake(vec![ticket], now);
            }
        }
        Some(old)
    }

    /// It is gone, or has a node.
    pub fn remove(&mut self, uid: &str) {
        let Some(ticket) = self.by_uid.remove(uid) else { return };
        self.leave_place(ticket);
        self.entries.remove(&ticket);
    }

    /// The pod whose turn it is. It stays known until it is removed.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.release(now);
        loop {
            let turn = match self.active.pop_first() {
                Some(turn) => turn,
                // Nothing else to do: why wait?
                None => self.resting.pop_first()?.1,
            };
            let entry = self.entry(turn.ticket);
            if entry.writing {
                entry.place = Place::Held;
                continue;
            }
            entry.place = Place::Out;
            return Some(entry.pod.clone());
        }
    }

    /// A popped pod fits no node: these plugins say so.
    pub fn turn_away(&mut self, uid: &str, plugins: PluginSet, now: Instant) {
        let Some(ticket) = self.popped(uid) else { return };
        let entry = self.entry(ticket);
        entry.failures += 1;
        entry.errors = 0;
        entry.turned_away = plugins;
        entry.turn.since = now;
        self.wait(ticket);
    }

    /// Something else than a plugin stood in a popped pod's way. Returns it, unless it is gone.
    pub fn fail(&mut self, uid: &str, now: Instant) -> Option<Arc<PodInfo>> {
        let ticket = self.popped(uid)?;
        let entry = self.entry(ticket);
        entry.errors += 1;
        entry.turned_away = PluginSet::default();
        entry.turn.since = now;
        let pod = entry.pod.clone();
        self.return_to_queue(ticket, now);
        Some(pod)
    }

    /// Something of the pod is about to be written: it isn't popped before [`Queue::written`].
    pub fn writing(&mut self, uid: &str) {
        if let Some(ticket) = self.by_uid.get(uid).copied() {
            self.entry(ticket).writing = true;
        }
    }

    pub fn written(&mut self, uid: &str) {
        let Some(ticket) = self.by_uid.get(uid).copied() else { return };
        let entry = self.entry(ticket);
        entry.writing = false;
        if entry.place == Place::Held {
            entry.place = Place::Active;
            let turn = entry.turn;
            self.active.insert(turn);
        }
    }

    /// Wakes those whom this change may help.
    pub fn happened(&mut self, change: &Change, now: Instant) {
        let worth: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(plugins, _)| self.framework.events(**plugins).intersects(change.kinds))
            .flat_map(|(_, tickets)| tickets.iter().copied())
            .filter(|ticket| self.worth_another_try(*ticket, change))
            .collect();
        self.wake(worth, now);
    }

    /// Wakes a pod though nothing happened.
    pub fn wake_one(&mut self, uid: &str, now: Instant) {
        let ticket = self.by_uid.get(uid).copied().filter(|ticket| self.entries[ticket].place == Place::Waiting);
        self.wake(ticket.into_iter().collect(), now);
    }

    /// When [`Queue::pop`] may have something that it hasn't now, if nothing happens before.
    pub fn next_due(&self) -> Option<Instant> {
        let recovered = self.recovering.first().map(|(window, _)| *window + WINDOW);
        let flush = (!self.waiting.is_empty()).then(|| self.flushed + FLUSH);
        recovered.into_iter().chain(flush).min()
    }

    fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.by_uid.insert(pod.uid.clone(), ticket);
        let turn = Turn::new(&pod, now, ticket);
        let entry = Entry {
            pod,
            place: Place::Out,
            turn,
            turned_away: PluginSet::default(),
            gate: None,
            failures: 0,
            errors: 0,
            writing: false,
        };
        self.entries.insert(ticket, entry);
        self.return_to_queue(ticket, now);
    }

    fn popped(&self, uid: &str) -> Option<u64> {
        self.by_uid.get(uid).copied().filter(|ticket| self.entries[ticket].place == Place::Out)
    }

    fn entry(&mut self, ticket: u64) -> &mut Entry {
        self.entries.get_mut(&ticket).expect("each ticket has its entry")
    }

    /// What has rested long enough, and what has waited too long.
    fn release(&mut self, now: Instant) {
        let window = self.window(now);
        for resting in [&mut self.resting, &mut self.recovering] {
            while resting.first().is_some_and(|(ends, _)| *ends < window) {
                let Some((_, turn)) = resting.pop_first() else { break };
                if let Some(entry) = self.entries.get_mut(&turn.ticket) {
                    entry.place = Place::Active;
                }
                self.active.insert(turn);
            }
        }
        if now.duration_since(self.flushed) < FLUSH {
            return;
        }
        self.flushed = now;
        let too_long = |ticket: &u64| {
            let entry = &self.entries[ticket];
            entry.gate.is_none() && now.duration_since(entry.turn.since) > LONGEST_WAIT
        };
        let leftover = self.waiting.values().flatten().copied().filter(too_long).collect();
        self.wake(leftover, now);
    }

    fn wake(&mut self, tickets: Vec<u64>, now: Instant) {
        for ticket in tickets {
            self.leave_place(ticket);
            self.return_to_queue(ticket, now);
        }
    }

    fn worth_another_try(&self, ticket: u64, change: &Change) -> bool {
        let entry = &self.entries[&ticket];
        if entry.gate.is_some_and(|gate| !self.framework.plugin(gate).events().intersects(change.kinds)) {
            return false;
        }
        entry
            .turned_away
            .iter()
            .map(|plugin| self.framework.plugin(plugin))
            .any(|plugin| plugin.events().intersects(change.kinds) && plugin.helps(&entry.pod, change))
    }

    /// Puts a pod that stands nowhere into line: at once, after its rest, or, at a closed gate, among those who wait.
    fn return_to_queue(&mut self, ticket: u64, now: Instant) {
        let framework = self.framework.clone();
        let (window, ends) = (self.window(now), self.rests_until(ticket));
        let entry = self.entry(ticket);
        entry.gate = framework.gate(&entry.pod);
        if let Some(gate) = entry.gate {
            entry.turned_away.insert(gate);
            return self.wait(ticket);
        }
        let turn = entry.turn;
        match ends.filter(|ends| *ends >= window) {
            Some(ends) if entry.turned_away.is_empty() => {
                entry.place = Place::Recovering(ends);
                self.recovering.insert((ends, turn));
            }
            Some(ends) => {
                entry.place = Place::Resting(ends);
                self.resting.insert((ends, turn));
            }
            None => {
                entry.place = Place::Active;
                self.active.insert(turn);
            }
        }
    }

    fn wait(&mut self, ticket: u64) {
        let entry = self.entry(ticket);
        entry.place = Place::Waiting;
        let plugins = entry.turned_away;
        self.waiting.entry(plugins).or_default().insert(ticket);
    }

    fn leave_place(&mut self, ticket: u64) {
        let entry = self.entry(ticket);
        let (turn, plugins) = (entry.turn, entry.turned_away);
        match std::mem::replace(&mut entry.place, Place::Out) {
            Place::Active => drop(self.active.remove(&turn)),
            Place::Resting(ends) => drop(self.resting.remove(&(ends, turn))),
            Place::Recovering(ends) => drop(self.recovering.remove(&(ends, turn))),
            Place::Waiting => {
                if let Some(tickets) = self.waiting.get_mut(&plugins) {
                    tickets.remove(&ticket);
                    if tickets.is_empty() {
                        self.waiting.remove(&plugins);
                    }
                }
            }
            Place::Out | Place::Held => {}
        }
    }

    /// The window in which the pod's rest ends; `None` for one that never failed.
    fn rests_until(&self, ticket: u64) -> Option<Instant> {
        let entry = &self.entries[&ticket];
        let count = if entry.errors > 0 { entry.errors } else { entry.failures };
        let doubled = self.backoff.initial.saturating_mul(1u32.checked_shl(count.checked_sub(1)?).unwrap_or(u32::MAX));
        Some(self.window(entry.turn.since + doubled.min(self.backoff.max)))
    }

    fn window(&self, at: Instant) -> Instant {
        self.epoch + Duration::from_secs(at.duration_since(self.epoch).as_secs())
    }
}

#[cfg(test)]
mod tests;
