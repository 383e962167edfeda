//! The loop: one pod's turn after another, each under the state's lock, while what earlier turns decided is written.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cycle::Verdict;
use crate::diagnosis::{Diagnosis, Nomination};
use crate::framework::Cycle;
use crate::plugins::node_name;
use crate::pod::PodInfo;
use crate::write::{Binding, Report};
use crate::{Shared, State};

/// Requests under way at once; past it the next pod waits. Enough that the API server can commit many in one
/// transaction.
const WRITES: usize = 256;

/// What a turn leaves to be told to the API.
pub enum Work {
    Bind(Binding),
    Report(Report),
}

/// Schedules until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(WRITES));
    let mut writes = JoinSet::new();
    loop {
        while let Some(written) = writes.try_join_next() {
            if let Err(error) = written {
                tracing::error!(%error, "a write of the scheduler broke off");
            }
        }
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let turn = shared.state.lock().turn(&shared, Instant::now());
        match turn {
            Turn::Done(work) => {
                // Waiting for volumes is no request.
                let waits = matches!(&work, Work::Bind(binding) if !binding.claims.is_empty());
                let permit = (!waits).then_some(permit);
                let shared = shared.clone();
                writes.spawn(async move {
                    match work {
                        Work::Bind(binding) => shared.bind(binding).await,
                        Work::Report(report) => shared.report(report).await,
                    }
                    drop(permit);
                });
                // Others have a turn too.
                tokio::task::yield_now().await;
            }
            Turn::Nobody { next } => {
                drop(permit);
                let due = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shared.wake.notified() => {}
                    () = due => {}
                }
            }
        }
    }
}

/// One pod's turn.
pub enum Turn {
    Done(Work),
    /// No pod waits for its turn, and none will before then unless something happens.
    Nobody {
        next: Option<Instant>,
    },
}

impl State {
    pub fn turn(&mut self, shared: &Shared, now: Instant) -> Turn {
        let Some(pod) = self.queue.pop(now) else {
            return Turn::Nobody { next: self.queue.next_due() };
        };
        let work = match self.scheduling.schedule(&shared.framework, &mut self.cache, &pod) {
            Verdict::Node(slot) => {
                let node = self.cache.node(slot).name.clone();
                self.cache.withdraw(&pod.uid);
                self.cache.assume(pod.clone(), slot);
                let cycle = Cycle { pod: &pod, cache: &self.cache };
                let claims = shared.framework.plugins().flat_map(|(_, plugin)| plugin.pre_bind(cycle)).collect();
                Work::Bind(Binding { pod, node, claims })
            }
            Verdict::Unfit(diagnosis) => Work::Report(self.unfit(pod, diagnosis, now)),
            Verdict::NoNodes => {
                let any_node = shared.framework.named(node_name::NAME);
                self.queue.turn_away(&pod.uid, any_node, now);
                Work::Report({
                    let message = "no nodes available to schedule pods".into();
                    Report::unschedulable(pod, message, Nomination::Nowhere, Vec::new())
                })
            }
            Verdict::Error(error) => {
                self.cache.withdraw(&pod.uid);
                self.queue.fail(&pod.uid, now);
                Work::Report(Report::error(pod, error))
            }
        };
        if let Work::Report(report) = &work
            && report.writes()
        {
            self.queue.writing(&report.pod.uid);
        }
        Turn::Done(work)
    }

    fn unfit(&mut self, pod: Arc<PodInfo>, mut diagnosis: Diagnosis, now: Instant) -> Report {
        self.queue.turn_away(&pod.uid, diagnosis.turned_away_by(), now);
        let nomination = std::mem::take(&mut diagnosis.nomination);
        let mut yielding = Vec::new();
        match &nomination {
            Nomination::AsItIs => {}
            Nomination::Nowhere => drop(self.cache.withdraw(&pod.uid)),
            Nomination::Node { name, .. } => {
                let lower = |other: &&Arc<PodInfo>| other.priority < pod.priority;
                yielding.extend(self.cache.nominated(name).iter().filter(lower).cloned());
                self.cache.nominate(pod.clone(), name);
            }
        }
        Report::unschedulable(pod, diagnosis.to_string(), nomination, yielding)
    }
}
