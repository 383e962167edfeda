//! Who is tried when: upstream's rules for the scheduling queue, on a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Backoff, Queue};
use crate::change::Change;
use crate::framework::Framework;
use crate::plugins;
use crate::pod::PodInfo;
use crate::testing::{both, labels, node, placed, pod, requests};

struct Clock {
    queue: Queue,
    framework: Arc<Framework>,
    now: Instant,
}

impl Clock {
    fn new() -> Self {
        let framework = Arc::new(Framework::new(plugins::all()));
        let now = Instant::now();
        Self { queue: Queue::new(framework.clone(), Backoff::default(), now), framework, now }
    }

    fn after(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    fn put(&mut self, pod: Arc<PodInfo>) -> &mut Self {
        drop(self.queue.put(pod, self.now));
        self
    }

    /// The name of the pod whose turn it is, or nothing.
    fn pop(&mut self) -> String {
        self.queue.pop(self.now).map(|pod| pod.key.name.clone()).unwrap_or_default()
    }

    fn turn_away(&mut self, uid: &str, plugin: &str) -> &mut Self {
        let plugins = self.framework.named(plugin);
        self.queue.turn_away(uid, plugins, self.now);
        self
    }

    fn happened(&mut self, change: Change) -> &mut Self {
        self.queue.happened(&change, self.now);
        self
    }

    fn fail(&mut self, uid: &str) -> &mut Self {
        assert!(self.queue.fail(uid, self.now).is_some());
        self
    }
}

fn with_priority(name: &str, priority: i32) -> Arc<PodInfo> {
    pod(name, json!({ "spec": { "priority": priority } }))
}

/// More room came.
fn room() -> Change {
    let small = node("a", json!({ "status": { "allocatable": { "cpu": "1" } } }));
    Change::node(Some(small), Some(node("a", json!({}))))
}

fn wants(name: &str) -> Arc<PodInfo> {
    pod(name, requests(json!({ "cpu": "2" })))
}

#[test]
fn priority_comes_first_then_who_waits_longer() {
    let mut clock = Clock::new();
    clock.put(with_priority("low", 1)).put(with_priority("high-1", 5));
    clock.after(0.001).put(with_priority("high-2", 5)).put(with_priority("highest", 9));
    let turns: Vec<_> = std::iter::from_fn(|| Some(clock.pop()).filter(|name| !name.is_empty())).collect();
    assert_eq!(turns, ["highest", "high-1", "high-2", "low"]);
}

#[test]
fn a_pod_that_was_turned_away_waits_for_what_may_help() {
    let mut clock = Clock::new();
    clock.put(wants("p"));
    assert_eq!(clock.pop(), "p");
    clock.turn_away("p", "NodeResourcesFit");
    clock.after(60.0);
    assert_eq!(clock.pop(), "", "nothing happened");
    let renamed = Change::node(Some(node("a", json!({}))), Some(node("a", labels([("x", "y")]))));
    clock.happened(renamed);
    assert_eq!(clock.pop(), "", "a label is no room");
    clock.happened(room());
    assert_eq!(clock.pop(), "p");
}

/// With nothing else to do a resting pod is tried at once: upstream's `SchedulerPopFromBackoffQ`.
#[test]
fn rest_is_for_when_others_wait() {
    let mut clock = Clock::new();
    clock.put(wants("p"));
    assert_eq!(clock.pop(), "p");
    clock.turn_away("p", "NodeResourcesFit").happened(room()).put(pod("other", json!({})));
    assert_eq!(clock.pop(), "other", "p rests");
    assert_eq!(clock.pop(), "p");
}

/// 1 s, 2 s, 4 s, 8 s, 10 s, 10 s; what ends in one window of a second ends together, after the window.
#[test]
fn rests_after_errors_are_never_cut_short_and_double() {
    let mut clock = Clock::new();
    clock.put(wants("p"));
    assert_eq!(clock.pop(), "p");
    for rest in [1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
        clock.fail("p").after(rest);
        assert_eq!(clock.pop(), "", "{rest} s aren't over");
        let due = clock.queue.next_due().expect("it rests");
        assert_eq!((due - clock.now).as_secs_f64(), 1.0, "the window's end");
        clock.after(1.0);
        assert_eq!(clock.pop(), "p", "after {rest} s");
    }
    // Being turned away is no error: errors are counted anew.
    clock.turn_away("p", "NodeResourcesFit").happened(room());
    assert_eq!(clock.pop(), "p");
    clock.fail("p").after(1.0);
    assert_eq!(clock.pop(), "");
    clock.after(1.0);
    assert_eq!(clock.pop(), "p");
}

#[test]
fn nothing_keeps_a_pod_waiting_for_more_than_five_minutes() {
    let mut clock = Clock::new();
    clock.put(wants("p"));
    assert_eq!(clock.pop(), "p");
    clock.turn_away("p", "NodeResourcesFit").after(299.0);
    assert_eq!(clock.pop(), "");
    let due = clock.queue.next_due().expect("it is looked after");
    assert!(due - clock.now <= Duration::from_secs(30));
    clock.after(31.0);
    assert_eq!(clock.pop(), "p");
}

#[test]
fn a_gate_keeps_a_pod_out_until_it_is_gone() {
    let gated = |gates: Value| pod("p", json!({ "spec": { "schedulingGates": gates } }));
    let mut clock = Clock::new();
    clock.put(gated(json!([{ "name": "g" }, { "name": "h" }])));
    clock.happened(room()).after(600.0);
    assert_eq!(clock.pop(), "", "neither a change nor time opens a gate");
    clock.put(gated(json!([{ "name": "h" }])));
    assert_eq!(clock.pop(), "");
    clock.put(gated(json!([])));
    assert_eq!(clock.pop(), "p");
}

#[test]
fn an_update_of_a_waiting_pod_wakes_it_if_it_helps() {
    let mut clock = Clock::new();
    clock.put(pod("p", json!({})));
    assert_eq!(clock.pop(), "p");
    clock.turn_away("p", "TaintToleration");
    clock.put(pod("p", labels([("x", "y")])));
    assert_eq!(clock.pop(), "");
    clock.put(pod("p", json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } })));
    assert_eq!(clock.pop(), "p");
}

/// A write about the pod must not overtake the next one.
#[test]
fn a_pod_isn_t_tried_while_something_of_it_is_written() {
    let mut clock = Clock::new();
    clock.put(wants("p"));
    assert_eq!(clock.pop(), "p");
    clock.turn_away("p", "NodeResourcesFit");
    clock.queue.writing("p");
    clock.happened(room());
    assert_eq!(clock.pop(), "");
    clock.queue.written("p");
    assert_eq!(clock.pop(), "p");
}

#[test]
fn a_pod_that_is_gone_isn_t_tried() {
    let mut clock = Clock::new();
    for name in ["active", "waiting", "resting", "out"] {
        clock.put(wants(name));
    }
    for name in ["active", "waiting", "resting", "out"] {
        assert_eq!(clock.pop(), name);
    }
    clock.turn_away("waiting", "NodeResourcesFit").fail("resting");
    clock.put(wants("active"));
    for name in ["active", "waiting", "resting", "out"] {
        clock.queue.remove(name);
    }
    clock.happened(room()).after(600.0);
    assert_eq!((clock.pop(), clock.queue.next_due()), (String::new(), None));
    assert!(clock.queue.fail("out", clock.now).is_none());
}

/// Upstream's tables of queueing hints: what helps a pod that a plugin turned away, and what doesn't.
#[test]
fn what_helps_whom() {
    let tainted = |effect: &str| node("a", json!({ "spec": { "taints": [{ "key": "k", "effect": effect }] } }));
    let plain = || node("a", json!({}));
    let cordoned = || node("a", json!({ "spec": { "unschedulable": true } }));
    let zone = |zone: &str| node("a", labels([("zone", zone)]));
    let app = |name: &str, app: &str| placed(name, "a", labels([("app", app)]));
    let gone = |pod: Arc<PodInfo>| Change::pod(Some(pod), None);
    let came = |pod: Arc<PodInfo>| Change::pod(None, Some(pod));
    let new_node = |node| Change::node(None, Some(node));
    let becomes = |old, new| Change::node(Some(old), Some(new));
    let port = |port: i32| json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 1, "hostPort": port }] }] } });
    let terms = |kind: &str| {
        let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "db" } } });
        json!({ "spec": { "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } } })
    };
    let spread = both(
        labels([("app", "db")]),
        json!({ "spec": { "topologySpreadConstraints": [{
            "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "db" } },
        }] } }),
    );
    let selecting = json!({ "spec": { "nodeSelector": { "zone": "1" } } });
    let two = || requests(json!({ "cpu": "2" }));
    let full = || node("a", json!({ "status": { "allocatable": { "cpu": "1" } } }));
    let less = |cpu: &str| placed("other", "a", requests(json!({ "cpu": cpu })));

    let cases = [
        ("NodeName", json!({}), new_node(plain()), true),
        ("NodeUnschedulable", json!({}), new_node(plain()), true),
        ("NodeUnschedulable", json!({}), new_node(cordoned()), false),
        ("NodeUnschedulable", json!({}), becomes(cordoned(), plain()), true),
        ("NodeUnschedulable", json!({}), becomes(plain(), zone("1")), false),
        ("TaintToleration", json!({}), new_node(tainted("NoSchedule")), false),
        ("TaintToleration", json!({}), new_node(plain()), true),
        ("TaintToleration", json!({}), becomes(tainted("NoSchedule"), plain()), true),
        ("TaintToleration", json!({}), becomes(tainted("NoSchedule"), tainted("NoExecute")), false),
        ("TaintToleration", json!({}), becomes(tainted("PreferNoSchedule"), plain()), false),
        ("NodeAffinity", selecting.clone(), new_node(zone("1")), true),
        ("NodeAffinity", selecting.clone(), new_node(zone("2")), false),
        ("NodeAffinity", selecting.clone(), becomes(zone("2"), zone("1")), true),
        ("NodeAffinity", selecting, becomes(zone("1"), node("a", labels([("zone", "1"), ("x", "")]))), false),
        ("NodePorts", port(80), gone(placed("other", "a", port(80))), true),
        ("NodePorts", port(80), gone(placed("other", "a", port(81))), false),
        ("NodePorts", port(80), new_node(plain()), true),
        ("NodeResourcesFit", two(), new_node(plain()), true),
        ("NodeResourcesFit", two(), new_node(full()), false),
        ("NodeResourcesFit", two(), becomes(full(), plain()), true),
        ("NodeResourcesFit", two(), becomes(plain(), full()), false),
        (
            "NodeResourcesFit",
            two(),
            becomes(plain(), node("a", json!({ "status": { "allocatable": { "memory": "9Gi" } } }))),
            false,
        ),
        ("NodeResourcesFit", two(), gone(app("other", "x")), true),
        ("NodeResourcesFit", two(), came(app("other", "x")), false),
        ("NodeResourcesFit", two(), Change::pod(Some(less("2")), Some(less("1"))), true),
        ("NodeResourcesFit", two(), Change::pod(Some(less("1")), Some(less("2"))), false),
        ("PodTopologySpread", spread.clone(), came(app("other", "db")), true),
        ("PodTopologySpread", spread.clone(), came(app("other", "web")), false),
        ("PodTopologySpread", spread.clone(), gone(app("other", "db")), true),
        ("PodTopologySpread", spread.clone(), Change::pod(Some(app("other", "db")), Some(app("other", "web"))), true),
        ("PodTopologySpread", spread.clone(), Change::pod(Some(app("other", "x")), Some(app("other", "web"))), false),
        ("PodTopologySpread", spread.clone(), new_node(zone("3")), true),
        ("PodTopologySpread", spread.clone(), new_node(plain()), false),
        ("PodTopologySpread", spread.clone(), becomes(zone("1"), zone("2")), true),
        ("PodTopologySpread", spread.clone(), Change::node(Some(zone("1")), None), true),
        ("PodTopologySpread", spread, becomes(plain(), node("a", labels([("x", "y")]))), false),
        ("InterPodAffinity", terms("podAffinity"), came(app("other", "db")), true),
        ("InterPodAffinity", terms("podAffinity"), came(app("other", "web")), false),
        ("InterPodAffinity", terms("podAffinity"), new_node(zone("1")), true),
        ("InterPodAffinity", terms("podAffinity"), new_node(plain()), false),
        (
            "InterPodAffinity",
            terms("podAffinity"),
            Change::pod(Some(app("other", "web")), Some(app("other", "db"))),
            true,
        ),
        ("InterPodAffinity", terms("podAntiAffinity"), gone(app("other", "db")), true),
        ("InterPodAffinity", terms("podAntiAffinity"), gone(app("other", "web")), false),
        (
            "InterPodAffinity",
            terms("podAntiAffinity"),
            Change::pod(Some(app("other", "db")), Some(app("other", "x"))),
            true,
        ),
        ("InterPodAffinity", terms("podAntiAffinity"), becomes(zone("1"), plain()), true),
        ("InterPodAffinity", terms("podAntiAffinity"), becomes(plain(), zone("1")), false),
        ("InterPodAffinity", labels([("app", "db")]), gone(placed("other", "a", terms("podAntiAffinity"))), true),
    ];
    for (index, (plugin, manifest, change, helps)) in cases.into_iter().enumerate() {
        let mut clock = Clock::new();
        clock.put(pod("p", manifest));
        assert_eq!(clock.pop(), "p");
        clock.turn_away("p", plugin).happened(change);
        assert_eq!(clock.pop() == "p", helps, "{plugin}, case {index}");
    }
}
