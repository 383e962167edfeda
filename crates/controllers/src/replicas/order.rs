//! Which pods of a set go first: upstream's `ActivePodsWithRanks`.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::pod::Pod;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What comes first is deleted first. One criterion counts where all before it are equal.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    on_same_node: Reverse<usize>,
    ready_for: Age,
    restarts: Reverse<i32>,
    sidecar_restarts: Reverse<i32>,
    exists_for: Age,
    /// Where ages differ too little to count, chance decides, so that not always the newest pod goes.
    uid: String,
}

/// A power of two of nanoseconds; unknown before all others.
type Age = Option<i32>;

/// The `count` pods to delete. `related` are those that share the set's purpose, itself included: of pods that are alike
/// the one goes that has the most of them on its node.
pub(super) fn choose(mut pods: Vec<Pod>, related: &[Pod], count: usize, now: Timestamp) -> Vec<Pod> {
    if count < pods.len() {
        let mut on_node = HashMap::<&str, usize>::new();
        for pod in related.iter().filter(|pod| pod.is_active()) {
            *on_node.entry(pod.spec().node_name.as_str()).or_default() += 1;
        }
        pods.sort_by_cached_key(|pod| order(pod, &on_node, now));
        pods.truncate(count);
    }
    pods
}

fn order(pod: &Pod, on_node: &HashMap<&str, usize>, now: Timestamp) -> Order {
    let node = pod.spec().node_name.as_str();
    let (restarts, sidecar_restarts) = most_restarts(pod);
    let ready = pod.is_ready();
    Order {
        assigned: !node.is_empty(),
        phase: match pod.status().phase.as_str() {
            "Unknown" => 1,
            "Running" => 2,
            _ => 0,
        },
        ready,
        cost: deletion_cost(pod),
        on_same_node: Reverse(on_node.get(node).copied().unwrap_or(0)),
        ready_for: ready.then(|| pod.ready_since()).flatten().map(|since| age(since, now)),
        restarts: Reverse(restarts),
        sidecar_restarts: Reverse(sidecar_restarts),
        exists_for: pod.created().map(|since| age(since, now)),
        uid: pod.uid().to_owned(),
    }
}

fn age(since: Timestamp, now: Timestamp) -> i32 {
    match u128::try_from(now.duration_since(since).as_nanos()) {
        Ok(nanoseconds) => nanoseconds.checked_ilog2().map_or(-1, u32::cast_signed),
        Err(_) => -1,
    }
}

/// What isn't a plain number counts as none.
fn deletion_cost(pod: &Pod) -> i32 {
    let Some(text) = pod.object.meta.annotations.get(DELETION_COST) else { return 0 };
    let cost: i32 = text.parse().unwrap_or(0);
    if cost.to_string() == *text { cost } else { 0 }
}

/// Of the pod's containers, and of its restartable init containers.
fn most_restarts(pod: &Pod) -> (i32, i32) {
    let status = pod.status();
    let is_sidecar =
        |name: &str| pod.spec().init_containers.iter().any(|c| c.name == name && c.restart_policy == "Always");
    let sidecars = status.init_container_statuses.iter().filter(|status| is_sidecar(&status.name));
    let most = |counts: &mut dyn Iterator<Item = i32>| counts.max().unwrap_or(0);
    (
        most(&mut status.container_statuses.iter().map(|status| status.restart_count)),
        most(&mut sidecars.map(|status| status.restart_count)),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{pod, with};

    fn timestamp(seconds_ago: i64) -> String {
        (now() - jiff::SignedDuration::from_secs(seconds_ago)).to_string()
    }

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().expect("a time")
    }

    fn running(ready_for: Option<i64>) -> Value {
        let ready = match ready_for {
            Some(ago) => json!({ "type": "Ready", "status": "True", "lastTransitionTime": timestamp(ago) }),
            None => json!({ "type": "Ready", "status": "False", "lastTransitionTime": timestamp(0) }),
        };
        json!({ "spec": { "nodeName": "n1" }, "status": { "phase": "Running", "conditions": [ready] } })
    }

    /// Each pair: the first is deleted before the second, as the page "ReplicaSet", section "Scaling a ReplicaSet", and
    /// the comments of `ActivePodsWithRanks` order them.
    #[test]
    fn the_least_useful_pod_goes_first() {
        let restarted = |count: i32| {
            let statuses = json!([{ "name": "c", "restartCount": count }]);
            with(&running(None), &json!({ "status": { "containerStatuses": statuses } }))
        };
        let created = |ago: i64| with(&running(None), &json!({ "metadata": { "creationTimestamp": timestamp(ago) } }));
        let costs =
            |pod: Value, cost: &str| with(&pod, &json!({ "metadata": { "annotations": { DELETION_COST: cost } } }));
        let on_node = |phase: &str| json!({ "spec": { "nodeName": "n1" }, "status": { "phase": phase } });
        let cases = [
            ("unassigned first", json!({ "status": { "phase": "Running" } }), running(None)),
            ("pending before unknown", on_node("Pending"), on_node("Unknown")),
            ("unknown before running", on_node("Unknown"), running(None)),
            ("not ready first", running(None), running(Some(100))),
            ("lower cost first", costs(running(Some(1000)), "-5"), running(Some(1))),
            ("a bad cost is none", running(Some(1)), costs(running(Some(1000)), "-05")),
            ("cost after readiness", running(None), costs(running(Some(1)), "-5")),
            (
                "crowded node first",
                running(Some(1000)),
                with(&running(Some(1)), &json!({ "spec": { "nodeName": "n2" } })),
            ),
            ("shorter ready first", running(Some(10)), running(Some(100))),
            ("more restarts first", restarted(3), restarted(1)),
            ("newer first", created(10), created(100)),
            ("no creation time first", running(None), created(1)),
        ];
        for (case, first, second) in cases {
            for swapped in [false, true] {
                let (name_first, name_second) = if swapped { ("b", "a") } else { ("a", "b") };
                let mut pods = vec![pod(name_first, &first), pod(name_second, &second)];
                if swapped {
                    pods.reverse();
                }
                let mut related = pods.clone();
                related.push(pod("c", &running(None)));
                let chosen = choose(pods, &related, 1, now());
                assert_eq!(chosen[0].name(), name_first, "{case}, swapped: {swapped}");
            }
        }
    }

    #[test]
    fn ages_count_by_their_magnitude() {
        // 100 s and 130 s are between 2^36 and 2^37 ns: the uid decides.
        let pods = vec![pod("b", &running(Some(100))), pod("a", &running(Some(130)))];
        assert_eq!(choose(pods, &[], 1, now())[0].name(), "a");
    }

    #[test]
    fn sidecars_count_after_containers() {
        let sidecar = |restarts: i32| {
            let statuses = json!([
                { "name": "s", "restartCount": restarts },
                { "name": "i", "restartCount": 9 - restarts },
            ]);
            let init = json!([{ "name": "s", "restartPolicy": "Always" }, { "name": "i" }]);
            with(
                &running(None),
                &json!({ "spec": { "initContainers": init }, "status": { "initContainerStatuses": statuses } }),
            )
        };
        let pods = vec![pod("a", &sidecar(1)), pod("b", &sidecar(2))];
        assert_eq!(choose(pods, &[], 1, now())[0].name(), "b");
    }
}
