//! Who has to make room: tables of upstream's tests of DefaultPreemption.

use std::sync::Arc;

use serde_json::{Value, json};
use tug_api::ObjectKey;

use crate::node::Node;
use crate::pod::PodInfo;
use crate::testing::{Fixture, both, labels, node, placed, pod, requests};

const LOW: i32 = 0;
const MID: i32 = 100;
const HIGH: i32 = 1000;

/// Tenths of a processor.
fn sized(tenths: i32) -> Value {
    requests(json!({ "cpu": format!("{}m", tenths * 100) }))
}

fn priority(priority: i32) -> Value {
    json!({ "spec": { "priority": priority } })
}

fn on(name: &str, node: &str, rank: i32, tenths: i32) -> Arc<PodInfo> {
    placed(name, node, both(sized(tenths), priority(rank)))
}

fn started(name: &str, node: &str, rank: i32, tenths: i32, second: u32) -> Arc<PodInfo> {
    let start = json!({ "status": { "startTime": format!("2026-01-01T00:00:{second:02}Z") } });
    placed(name, node, both(both(sized(tenths), priority(rank)), start))
}

/// With half a processor each.
fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names.iter().map(|name| node(name, json!({ "status": { "allocatable": { "cpu": "500m" } } }))).collect()
}

fn expected(node: &str, victims: &[&str]) -> Option<(String, Vec<String>)> {
    Some((node.into(), victims.iter().map(|victim| (*victim).into()).collect()))
}

#[test]
fn as_few_and_as_unimportant_as_will_do() {
    let new = |rank: i32, tenths: i32| pod("new", both(sized(tenths), priority(rank)));
    let anti = json!({ "spec": { "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "foo": "" } } },
    ] } } } });
    let cases = [
        (
            "nobody is less important",
            nodes(&["a", "b"]),
            vec![on("p", "a", MID, 3), on("q", "b", MID, 3)],
            new(LOW, 3),
            None,
        ),
        (
            "the low one may stay, it is small",
            nodes(&["a"]),
            vec![on("low", "a", LOW, 1), on("mid", "a", MID, 3)],
            new(HIGH, 3),
            expected("a", &["mid"]),
        ),
        (
            "mixed priorities: the low one goes before the small mid one",
            nodes(&["a", "b"]),
            vec![
                on("p1", "a", MID, 1),
                on("p2", "a", LOW, 1),
                on("p3", "a", MID, 2),
                on("p4", "a", HIGH, 1),
                on("p5", "b", HIGH, 3),
            ],
            new(HIGH, 3),
            expected("a", &["p3", "p2"]),
        ),
        (
            "of equals, who started last goes",
            nodes(&["a", "b"]),
            vec![
                started("p1", "a", LOW, 1, 5),
                started("p2", "a", LOW, 1, 4),
                started("p3", "a", MID, 2, 3),
                started("p4", "a", HIGH, 1, 2),
                started("p5", "b", HIGH, 3, 1),
            ],
            new(HIGH, 3),
            expected("a", &["p3", "p1"]),
        ),
        (
            "who doesn't want it near goes",
            nodes(&["a", "b"]),
            vec![
                placed("p1", "a", both(both(both(sized(1), priority(LOW)), labels([("foo", "")])), anti)),
                on("p2", "a", MID, 1),
                on("p3", "a", HIGH, 1),
                on("p4", "b", HIGH, 5),
            ],
            pod("new", both(both(sized(1), priority(HIGH)), labels([("foo", "")]))),
            expected("a", &["p1"]),
        ),
        (
            "where the most important victim is the least important",
            nodes(&["a", "b", "c"]),
            vec![on("p", "a", MID, 5), on("q", "b", LOW, 5), on("r", "c", MID, 5)],
            new(HIGH, 5),
            expected("b", &["q"]),
        ),
        (
            "where the victims are the least important together",
            nodes(&["a", "b"]),
            vec![on("p", "a", MID, 3), on("q", "a", MID, 2), on("r", "b", MID, 3), on("s", "b", LOW, 2)],
            new(HIGH, 5),
            expected("b", &["r", "s"]),
        ),
        (
            "where they are the fewest",
            nodes(&["a", "b"]),
            vec![on("p", "a", LOW, 3), on("q", "a", LOW, 2), on("r", "b", LOW, 5)],
            new(HIGH, 5),
            expected("b", &["r"]),
        ),
        (
            "where they started last",
            nodes(&["a", "b"]),
            vec![started("p", "a", LOW, 5, 1), started("q", "b", LOW, 5, 2)],
            new(HIGH, 5),
            expected("b", &["q"]),
        ),
        (
            "it may not",
            nodes(&["a"]),
            vec![on("p", "a", LOW, 5)],
            pod("new", both(both(sized(5), priority(HIGH)), json!({ "spec": { "preemptionPolicy": "Never" } }))),
            None,
        ),
    ];
    for (name, nodes, placed, pod, expected) in cases {
        assert_eq!(Fixture::new(&nodes, &placed).preemption(&pod), expected, "{name}");
    }
}

/// Upstream's case "preemption to resolve pod topology spread filter failure".
#[test]
fn room_in_a_crowded_zone() {
    let at = |name: &str, zone: &str| node(name, labels([("zone", zone)]));
    let nodes = [at("a", "1"), at("b", "1"), at("x", "2")];
    let foo = |name: &str, node: &str, rank: i32| placed(name, node, both(priority(rank), labels([("foo", "")])));
    let placed =
        [foo("a1", "a", MID), foo("a2", "a", LOW), foo("b1", "b", LOW), foo("x1", "x", HIGH), foo("x2", "x", HIGH)];
    let constraint = |key: &str| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchExpressions": [{ "key": "foo", "operator": "Exists" }] },
        })
    };
    let constraints = [constraint("zone"), constraint("kubernetes.io/hostname")];
    let spread = json!({ "spec": { "topologySpreadConstraints": constraints } });
    let pod = pod("new", both(both(priority(HIGH), labels([("foo", "")])), spread));
    let chosen = Fixture::new(&nodes, &placed).preemption(&pod).expect("room can be made");
    let candidates = [("a".to_owned(), vec!["a2".to_owned()]), ("b".to_owned(), vec!["b1".to_owned()])];
    assert!(candidates.contains(&chosen), "{chosen:?}");
}

/// Budgets are kept where that is possible.
#[test]
fn disruption_budgets() {
    let budget = |allowed: i32, disrupted: Value| {
        json!({
            "spec": { "selector": { "matchLabels": { "app": "foo" } } },
            "status": {
                "disruptionsAllowed": allowed, "disruptedPods": disrupted,
                "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
            },
        })
    };
    let foo = |name: &str, node: &str, rank: i32, tenths: i32| {
        placed(name, node, both(both(sized(tenths), priority(rank)), labels([("app", "foo")])))
    };
    let new = || pod("new", both(sized(4), priority(HIGH)));
    let cases = [
        (
            "not the one under a budget",
            budget(0, json!({})),
            vec![foo("p", "a", LOW, 4), on("q", "b", MID, 4)],
            expected("b", &["q"]),
        ),
        (
            "the budget allows it",
            budget(1, json!({})),
            vec![foo("p", "a", LOW, 4), on("q", "b", MID, 4)],
            expected("a", &["p"]),
        ),
        (
            "there is no other way",
            budget(0, json!({})),
            vec![foo("p", "a", LOW, 4), on("q", "b", HIGH, 4)],
            expected("a", &["p"]),
        ),
        (
            "its end is counted already",
            budget(0, json!({ "p": "2026-01-01T00:00:00Z" })),
            vec![foo("p", "a", LOW, 4), on("q", "b", MID, 4)],
            expected("a", &["p"]),
        ),
        (
            "on one node, others go before those under a budget, however important",
            budget(0, json!({})),
            vec![foo("p", "a", LOW, 1), on("q", "a", MID, 4), on("r", "b", HIGH, 4)],
            expected("a", &["q"]),
        ),
    ];
    for (name, budget, placed, expected) in cases {
        let mut fixture = Fixture::new(&nodes(&["a", "b"]), &placed);
        let budget = serde_json::from_value(budget).expect("a budget");
        fixture.cache.others.budgets.put(&ObjectKey::new("default", "b"), &budget);
        assert_eq!(fixture.preemption(&new()), expected, "{name}");
    }
}

/// Upstream's `TestPodEligibleToPreemptOthers`, and what people read.
#[test]
fn who_may_not_and_what_it_says() {
    let nominated = json!({ "status": { "nominatedNodeName": "a" } });
    let waiting = pod("new", both(both(sized(5), priority(HIGH)), nominated));
    let ending = |by_scheduler: bool| {
        let reason = if by_scheduler { "PreemptionByScheduler" } else { "EvictionByEvictionAPI" };
        let ending = json!({
            "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": reason }] },
        });
        placed("p", "a", both(both(sized(5), priority(LOW)), ending))
    };
    let message = |placed: Arc<PodInfo>, pod: &PodInfo| Fixture::new(&nodes(&["a"]), &[placed]).outcome(pod);
    assert_eq!(
        message(ending(true), &waiting),
        "0/1 nodes are available: 1 Insufficient cpu. \
         preemption: not eligible due to a terminating pod on the nominated node."
    );
    assert_eq!(message(ending(false), &waiting), "0/1 nodes are available: 1 Insufficient cpu.");
    let never = pod("new", both(both(sized(5), priority(HIGH)), json!({ "spec": { "preemptionPolicy": "Never" } })));
    assert_eq!(
        message(on("p", "a", LOW, 5), &never),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
}

/// Room that was made for one pod isn't given to another that is no more important.
#[test]
fn room_is_kept() {
    let mut fixture = Fixture::new(&nodes(&["a", "b"]), &[on("p", "b", HIGH, 5)]);
    let owner = pod("owner", both(sized(5), priority(MID)));
    fixture.cache.nominate(owner.clone(), "a");
    let kept = "0/2 nodes are available: 2 Insufficient cpu. \
                preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(fixture.outcome(&pod("other", both(sized(5), priority(MID)))), kept);
    assert_eq!(fixture.outcome(&pod("vip", both(sized(5), priority(HIGH)))), "a");
    assert_eq!(fixture.outcome(&owner), "a");
    fixture.cache.withdraw("owner");
    assert_eq!(fixture.outcome(&pod("other", both(sized(5), priority(MID)))), "a");
}
