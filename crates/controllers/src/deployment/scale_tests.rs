//! Cases of upstream's `deployment_util_test.go`, `rolling_test.go` and `sync_test.go`.

use serde_json::json;

use super::super::testing::{deployment, set};
use super::*;

/// Sets in the order in which they were made; of each its size, available pods and annotated maximum.
fn sets(sizes: &[(&str, i32, i32, i32)]) -> Vec<Set> {
    let make = |(n, (name, replicas, available, most)): (usize, &(&str, i32, i32, i32))| {
        let created = format!("2030-01-01T00:00:{n:02}Z");
        let annotations = if *most > 0 { json!({ MAXIMUM: most.to_string() }) } else { json!({}) };
        set(
            name,
            &json!({
                "metadata": { "creationTimestamp": created, "annotations": annotations },
                "spec": { "replicas": replicas },
                "status": { "replicas": replicas, "availableReplicas": available },
            }),
        )
    };
    sizes.iter().enumerate().map(make).collect()
}

fn rolling_deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    deployment(&json!({
        "replicas": replicas,
        "strategy": { "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } },
    }))
}

fn said(sizes: &[Size]) -> Vec<(&str, i32)> {
    sizes.iter().map(|size| (size.set.as_str(), size.replicas)).collect()
}

/// `TestNewRSNewReplicas`, `TestDeploymentController_reconcileNewReplicaSet`.
#[test]
fn the_newest_set_takes_the_room_there_is() {
    let recreate = deployment(&json!({ "replicas": 10, "strategy": { "type": "Recreate" } }));
    assert_eq!(newest_size(&recreate, 0, 5), 10);
    for (replicas, surge, old, newest, expected) in
        [(1, 1, 1, 0, 1), (10, 2, 10, 0, 2), (10, 2, 5, 0, 7), (10, 0, 10, 0, 0), (10, 2, 0, 10, 10), (10, 5, 4, 4, 10)]
    {
        let deployment = rolling_deployment(replicas, surge, 0);
        assert_eq!(newest_size(&deployment, old + newest, newest), expected, "{replicas} {surge} {old} {newest}");
    }
}

#[test]
fn a_rolling_update_steps_by_what_is_available() {
    /// The Deployment's replicas, surge and unavailable; the old set's and the newest set's size and available pods.
    type Case<'a> = (&'a str, (i32, i32, i32), (i32, i32), (i32, i32), &'a [(&'a str, i32)]);
    let cases: [Case<'_>; 13] = [
        // reconcileNewReplicaSet
        ("no room", (10, 0, 2), (10, 0), (0, 0), &[("old", 8)]),
        ("room for surplus", (10, 2, 2), (10, 0), (0, 0), &[("new", 2)]),
        ("room that old pods left", (10, 2, 2), (5, 0), (0, 0), &[("new", 7)]),
        ("all surplus is used", (10, 2, 2), (10, 0), (2, 0), &[("old", 8)]),
        ("too large", (10, 2, 2), (2, 0), (11, 0), &[("new", 10)]),
        // reconcileOldReplicaSets
        ("unhealthy old pods go", (10, 0, 2), (10, 8), (0, 0), &[("old", 8)]),
        ("healthy ones above the least", (10, 0, 2), (10, 10), (0, 0), &[("old", 8)]),
        ("new ones that aren't available hold them", (10, 2, 0), (10, 10), (2, 0), &[]),
        ("new ones are available", (10, 2, 0), (10, 10), (2, 2), &[("old", 8)]),
        ("as many as became available", (10, 2, 2), (8, 8), (4, 2), &[("old", 6)]),
        ("the last one", (1, 1, 0), (1, 1), (1, 1), &[("old", 0)]),
        ("not before its successor", (1, 1, 0), (1, 1), (1, 0), &[]),
        ("done", (10, 2, 2), (0, 0), (10, 10), &[]),
    ];
    for (case, (replicas, surge, unavailable), old, newest, expected) in cases {
        let deployment = rolling_deployment(replicas, surge, unavailable);
        let old = sets(&[("old", old.0, old.1, 0)]);
        let newest = &sets(&[("new", newest.0, newest.1, 0)])[0];
        assert_eq!(said(&rolling(&deployment, newest, &old)), expected, "{case}");
    }
}

/// `TestDeploymentController_cleanupUnhealthyReplicas`: the oldest first.
#[test]
fn unhealthy_pods_go_before_healthy_ones() {
    let deployment = rolling_deployment(10, 2, 2);
    let newest = &sets(&[("new", 2, 0, 0)])[0];
    // 12 - 8 - 2 may go; of the available ones none, for 8 are wanted.
    let cases = [((4, 4), (6, 1), vec![("older", 4)]), ((4, 3), (6, 1), vec![("oldest", 3), ("older", 5)])];
    for (oldest, older, expected) in cases {
        let old = sets(&[("oldest", oldest.0, oldest.1, 0), ("older", older.0, older.1, 0)]);
        assert_eq!(said(&rolling(&deployment, newest, &old)), expected, "{oldest:?} {older:?}");
    }
}

/// `TestScale`. The annotated maximum is what the sets were sized for.
#[test]
fn a_change_of_size_keeps_proportions() {
    type Case<'a> =
        (&'a str, (i32, i32), Option<(&'a str, i32, i32, i32)>, &'a [(&'a str, i32, i32, i32)], &'a [(&'a str, i32)]);
    let cases: [Case<'_>; 13] = [
        ("10 to 12", (12, 0), Some(("v1", 10, 0, 10)), &[], &[("v1", 12)]),
        ("10 to 5", (5, 0), Some(("v1", 10, 0, 10)), &[], &[("v1", 5)]),
        ("5 to 10", (10, 0), Some(("v2", 2, 0, 5)), &[("v1", 3, 0, 5)], &[("v2", 4), ("v1", 6)]),
        ("5 to 3", (3, 0), Some(("v2", 2, 0, 5)), &[("v1", 3, 0, 5)], &[("v2", 1), ("v1", 2)]),
        ("9 to 4", (4, 0), Some(("v2", 8, 0, 9)), &[("v1", 1, 0, 9)], &[("v2", 4), ("v1", 0)]),
        (
            "7 to 10",
            (10, 0),
            Some(("v3", 2, 0, 7)),
            &[("v2", 3, 0, 7), ("v1", 2, 0, 7)],
            &[("v3", 3), ("v2", 4), ("v1", 3)],
        ),
        (
            "13 to 8",
            (8, 0),
            Some(("v3", 2, 0, 13)),
            &[("v2", 8, 0, 13), ("v1", 3, 0, 13)],
            &[("v3", 1), ("v2", 5), ("v1", 2)],
        ),
        (
            "3 to 4, where the rest is the newest one's",
            (4, 0),
            Some(("v3", 1, 0, 3)),
            &[("v2", 1, 0, 3), ("v1", 1, 0, 3)],
            &[("v3", 2), ("v2", 1), ("v1", 1)],
        ),
        (
            "10 to 50, and the surplus from 3 to 6",
            (50, 6),
            Some(("v2", 5, 0, 13)),
            &[("v1", 8, 0, 13)],
            &[("v2", 22), ("v1", 34)],
        ),
        ("to nothing", (0, 0), Some(("v2", 3, 0, 5)), &[("v1", 2, 0, 5)], &[("v2", 0), ("v1", 0)]),
        ("up from nothing", (6, 0), None, &[("v1", 0, 0, 0)], &[("v1", 6)]),
        ("one set is active", (6, 0), Some(("v2", 3, 0, 3)), &[("v1", 0, 0, 0)], &[("v2", 6)]),
        ("without an annotation", (10, 0), Some(("v2", 2, 0, 0)), &[("v1", 3, 0, 5)], &[("v2", 4), ("v1", 6)]),
    ];
    for (case, (replicas, surge), newest, old, expected) in cases {
        let existing: i32 = old.iter().chain(&newest).map(|(_, replicas, _, _)| replicas).sum();
        let deployment = deployment(&json!({
            "replicas": replicas,
            "strategy": { "rollingUpdate": { "maxSurge": surge, "maxUnavailable": 0 } },
            "status": { "replicas": existing },
        }));
        let mut in_order = old.to_vec();
        in_order.reverse();
        in_order.extend(newest);
        let mut sets = sets(&in_order);
        let newest = newest.and_then(|_| sets.pop());
        let mut sizes = said(&proportional(&deployment, newest.as_ref(), &sets))
            .into_iter()
            .map(|(n, r)| (n.to_owned(), r))
            .collect::<Vec<_>>();
        let mut expected = expected.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect::<Vec<_>>();
        sizes.sort();
        expected.sort();
        assert_eq!(sizes, expected, "{case}");
    }
}

#[test]
fn a_saturated_newest_set_needs_no_old_ones() {
    let deployment = rolling_deployment(3, 0, 1);
    let newest = set(
        "new",
        &json!({
            "metadata": { "annotations": { DESIRED: "3" } }, "spec": { "replicas": 3 }, "status": { "availableReplicas": 3 },
        }),
    );
    let old = sets(&[("adopted", 2, 2, 0)]);
    assert_eq!(said(&proportional(&deployment, Some(&newest), &old)), [("adopted", 0)]);
}

#[test]
fn a_size_that_sets_were_not_made_for_is_a_change_of_size() {
    let deployment = rolling_deployment(3, 0, 1);
    let with = |replicas: i32, desired: &str| {
        set("s", &json!({ "metadata": { "annotations": { DESIRED: desired } }, "spec": { "replicas": replicas } }))
    };
    let cases = [(3, "3", false), (3, "5", true), (0, "5", false), (3, "x", false)];
    for (replicas, desired, expected) in cases {
        assert_eq!(is_scaling(&deployment, Some(&with(replicas, desired)), &[]), expected, "{replicas} {desired}");
        assert_eq!(is_scaling(&deployment, None, &[with(replicas, desired)]), expected, "{replicas} {desired}, old");
    }
}

/// `TestDeploymentController_cleanupDeployment`.
#[test]
fn the_history_is_as_long_as_its_limit() {
    let old = |replicas: i32, actual: i32, generation: i64, observed: i64| -> Vec<Set> {
        let make = |n: i32| {
            set(
                &format!("v{n}"),
                &json!({
                    "metadata": { "generation": generation, "annotations": { revision::REVISION: n.to_string() } },
                    "spec": { "replicas": replicas },
                    "status": { "replicas": actual, "observedGeneration": observed },
                }),
            )
        };
        [10, 2, 9].map(make).into()
    };
    let limited = |limit: i32| deployment(&json!({ "revisionHistoryLimit": limit }));
    let cases = [
        ("none", 0, old(0, 0, 0, 0), vec!["v2", "v9", "v10"]),
        ("one", 1, old(0, 0, 0, 0), vec!["v2", "v9"]),
        ("enough", 10, old(0, 0, 0, 0), vec![]),
        ("active", 0, old(1, 1, 0, 0), vec![]),
        ("still has pods", 0, old(0, 1, 0, 0), vec![]),
        ("not seen yet", 0, old(0, 0, 2, 1), vec![]),
        ("unlimited", i32::MAX, old(0, 0, 0, 0), vec![]),
    ];
    for (case, limit, old, expected) in cases {
        let names: Vec<_> = forgotten(&limited(limit), &old).iter().map(|set| set.name().to_owned()).collect();
        assert_eq!(names, expected, "{case}");
    }
}
