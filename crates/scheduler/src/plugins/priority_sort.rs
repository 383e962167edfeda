//! PrioritySort: who comes first. The higher priority; of equals, who waits longer.

use std::cmp::Reverse;

use tokio::time::Instant;

use crate::pod::PodInfo;

/// A pod's place in line; the least is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    priority: Reverse<i32>,
    pub since: Instant,
    /// Sets those apart that came at the same time.
    pub ticket: u64,
}

impl Turn {
    pub fn new(pod: &PodInfo, since: Instant, ticket: u64) -> Self {
        Self { priority: Reverse(pod.priority), since, ticket }
    }
}
