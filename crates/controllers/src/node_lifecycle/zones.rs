//! How fast nodes may be emptied, by the state of their zone: many that fall silent at once are more likely cut off than
//! broken, and then their pods had better stay.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::health::is_ready;

/// kube-controller-manager's `--node-eviction-rate` and `--secondary-node-eviction-rate`, in nodes a second.
const RATE: f64 = 0.1;
const SECONDARY_RATE: f64 = 0.01;
/// `--large-cluster-size-threshold` and `--unhealthy-zone-threshold`.
const LARGE: usize = 50;
const UNHEALTHY: f64 = 0.55;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Normal,
    PartialDisruption,
    FullDisruption,
}

/// Region and zone.
pub(super) type Zone = (String, String);

pub(super) struct Zones(BTreeMap<Zone, Counts>);

#[derive(Default)]
struct Counts {
    ready: usize,
    not_ready: usize,
}

/// Lets one node after the other be emptied.
#[derive(Default)]
pub(super) struct Limiter {
    last: HashMap<Zone, Instant>,
}

pub(super) fn zone_of(node: &Node) -> Zone {
    let label = |name: &str| node.metadata.labels.iter().flatten().find(|(key, _)| *key == name);
    let text = |name: &str| label(name).map(|(_, value)| value.clone()).unwrap_or_default();
    (text("topology.kubernetes.io/region"), text("topology.kubernetes.io/zone"))
}

impl Zones {
    pub fn count<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let mut zones = BTreeMap::<Zone, Counts>::new();
        for node in nodes.filter(|node| !node.metadata.labels.iter().flatten().any(|(key, _)| key == EXCLUDED)) {
            let counts = zones.entry(zone_of(node)).or_default();
            if is_ready(node) {
                counts.ready += 1;
            } else {
                counts.not_ready += 1;
            }
        }
        Self(zones)
    }

    /// No node is ready anywhere: it is us who are cut off, or all is just starting. Nobody is driven out.
    pub fn are_all_disrupted(&self) -> bool {
        self.0.values().all(|counts| counts.state() == State::FullDisruption)
    }

    /// The time between two nodes of the zone; `None` while none may be emptied.
    pub fn interval(&self, zone: &Zone) -> Option<Duration> {
        let every = |rate: f64| Some(Duration::from_secs_f64(1.0 / rate));
        let Some(counts) = self.0.get(zone) else { return every(RATE) };
        match counts.state() {
            State::Normal | State::FullDisruption => every(RATE),
            State::PartialDisruption if counts.ready + counts.not_ready > LARGE => every(SECONDARY_RATE),
            State::PartialDisruption => None,
        }
    }
}

impl Counts {
    /// `ComputeZoneState`.
    fn state(&self) -> State {
        let (ready, not_ready) = (self.ready as f64, self.not_ready as f64);
        if self.ready == 0 && self.not_ready > 0 {
            State::FullDisruption
        } else if self.not_ready > 2 && not_ready / (not_ready + ready) >= UNHEALTHY {
            State::PartialDisruption
        } else {
            State::Normal
        }
    }
}

impl Limiter {
    /// Takes the zone's turn.
    ///
    /// # Errors
    /// How long it is until the next one.
    pub fn take(&mut self, zone: &Zone, interval: Duration, now: Instant) -> Result<(), Duration> {
        if let Some(last) = self.last.get(zone) {
            let next = *last + interval;
            if next > now {
                return Err(next - now);
            }
        }
        self.last.insert(zone.clone(), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(zone: &str, is_ready: bool) -> Node {
        let status = if is_ready { "True" } else { "Unknown" };
        serde_json::from_value(json!({
            "metadata": { "name": "n", "labels": { "topology.kubernetes.io/zone": zone } },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        }))
        .expect("a node")
    }

    /// Rates of upstream's flags, zone states of its `ComputeZoneState`.
    #[test]
    fn the_more_are_silent_the_slower_they_are_emptied() {
        use State::{FullDisruption, Normal, PartialDisruption};
        let cases = [
            (3, 0, Normal, Some(10)),
            (0, 1, FullDisruption, Some(10)),
            (1, 2, Normal, Some(10)),
            (2, 3, PartialDisruption, None),
            (5, 4, Normal, Some(10)),
            (20, 31, PartialDisruption, Some(100)),
        ];
        for (ready, not_ready, state, seconds) in cases {
            let nodes: Vec<Node> = (0..ready + not_ready).map(|n| node("a", n < ready)).collect();
            let zones = Zones::count(nodes.iter());
            let zone = zone_of(&nodes[0]);
            assert_eq!(zones.0[&zone].state(), state, "{ready} {not_ready}");
            assert_eq!(zones.interval(&zone).map(|interval| interval.as_secs()), seconds, "{ready} {not_ready}");
            assert_eq!(zones.are_all_disrupted(), state == FullDisruption);
        }
        let two = [node("a", false), node("b", true)];
        assert!(!Zones::count(two.iter()).are_all_disrupted());
    }

    #[test]
    fn a_zone_s_nodes_take_turns() {
        let mut limiter = Limiter::default();
        let (start, interval) = (Instant::now(), Duration::from_secs(10));
        let zone = |name: &str| (String::new(), name.to_owned());
        assert_eq!(limiter.take(&zone("a"), interval, start), Ok(()));
        assert_eq!(limiter.take(&zone("b"), interval, start), Ok(()));
        assert_eq!(limiter.take(&zone("a"), interval, start + Duration::from_secs(4)), Err(Duration::from_secs(6)));
        assert_eq!(limiter.take(&zone("a"), interval, start + interval), Ok(()));
    }
}
