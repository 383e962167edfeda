//! The scheduler against a real API server and store: what becomes of pods, as a person sees it.

mod support;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;

use support::{Tested, named, node_of, pod, scheduled};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pods_spread_over_five_nodes() {
    let tested = Tested::start(5).await;
    let api = tested.api::<Pod>();
    let creates = (0..200).map(|index| {
        let pod = pod(&format!("pod-{index}"), json!({ "cpu": "100m", "memory": "128Mi" }));
        let (api, pod) = (api.clone(), serde_json::from_value(pod).expect("well-formed"));
        async move { api.create(&PostParams::default(), &pod).await.expect("created") }
    });
    futures::future::join_all(creates).await;
    let is_bound = |pod: &std::sync::Arc<Pod>| node_of(pod).is_some();
    let pods = tested.pods_until("all are bound", |pods| pods.len() == 200 && pods.iter().all(is_bound)).await;
    let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in &pods {
        *by_node.entry(node_of(pod).expect("bound")).or_default() += 1;
        let condition = scheduled(pod).expect("a condition");
        assert_eq!(condition.status, "True");
    }
    // All ask for the same, so the least allocated node is the one with the fewest.
    let expected: Vec<_> = ["node-0", "node-1", "node-2", "node-3", "node-4"].map(|node| (node, 40)).into();
    assert_eq!(by_node.into_iter().collect::<Vec<_>>(), expected);

    let message = "Successfully assigned default/pod-7 to ";
    let events = tested.events_until("it is said", |events| {
        events.iter().any(|event| event.message.as_deref().is_some_and(|text| text.starts_with(message)))
    });
    let events = events.await;
    let about_it = |event: &&std::sync::Arc<_>| {
        let event: &k8s_openapi::api::core::v1::Event = event;
        event.involved_object.name.as_deref() == Some("pod-7")
    };
    let about_it: Vec<_> = events.iter().filter(about_it).collect();
    assert_eq!(about_it.len(), 1, "bound once: {about_it:#?}");
    let event = about_it[0];
    assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Normal"), Some("Scheduled")));
    let component = event.source.as_ref().and_then(|source| source.component.as_deref());
    assert_eq!(component, Some("default-scheduler"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_goes_where_room_comes() {
    let tested = Tested::start(5).await;
    tested.create::<Pod>(pod("big", json!({ "cpu": "20" }))).await;
    let waits = |pods: &[std::sync::Arc<Pod>]| {
        named(pods, "big").and_then(|pod| scheduled(pod)).is_some_and(|condition| condition.status == "False")
    };
    let pods = tested.pods_until("it waits", waits).await;
    let condition = scheduled(named(&pods, "big").expect("there")).expect("a condition").clone();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    let why = "0/5 nodes are available: 5 Insufficient cpu. \
               preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.";
    assert_eq!(condition.message.as_deref(), Some(why));
    let said = |event: &std::sync::Arc<k8s_openapi::api::core::v1::Event>| {
        event.reason.as_deref() == Some("FailedScheduling") && event.message.as_deref() == Some(why)
    };
    tested.events_until("it is said", |events| events.iter().any(said)).await;

    tested.set_allocatable("node-3", json!({ "cpu": "32" })).await;
    let bound = |pods: &[std::sync::Arc<Pod>]| named(pods, "big").and_then(|pod| node_of(pod)).is_some();
    let pods = tested.pods_until("it is bound", bound).await;
    let pod = named(&pods, "big").expect("there");
    assert_eq!(node_of(pod), Some("node-3"));
    assert_eq!(scheduled(pod).expect("a condition").status, "True");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_scheduler_finds_what_waits_and_counts_what_is_placed() {
    let mut tested = Tested::start(2).await;
    for name in ["before-0", "before-1"] {
        tested.create::<Pod>(pod(name, json!({ "cpu": "5" }))).await;
    }
    let bound = |count: usize| {
        move |pods: &[std::sync::Arc<Pod>]| pods.iter().filter(|pod| node_of(pod).is_some()).count() == count
    };
    tested.pods_until("two are bound", bound(2)).await;
    tested.stop_scheduler().await;
    for (name, cpu) in [("big", "4"), ("small", "3")] {
        tested.create::<Pod>(pod(name, json!({ "cpu": cpu }))).await;
    }
    tested.start_scheduler();
    let pods = tested.pods_until("only the small one fits beside those before", bound(3)).await;
    assert!(node_of(named(&pods, "small").expect("there")).is_some());
}
