//! `/stats/summary` and `/metrics`: what the node's pods use, thin.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Server, answer};
use crate::labels;
use crate::pod;
use crate::runtime::{State, Stats};

/// Containers that run, with what they use.
async fn usage(server: &Server) -> Vec<(std::sync::Arc<k8s_openapi::api::core::v1::Pod>, Vec<(String, Stats)>)> {
    let mut all = Vec::new();
    for pod in server.pods.list() {
        let mut containers = Vec::new();
        for status in server.context.runtime.containers(pod::uid(&pod)) {
            if status.state != State::Running {
                continue;
            }
            if let Ok(stats) = server.context.runtime.stats(&status.id).await {
                containers.push((labels::container_name(&status).to_owned(), stats));
            }
        }
        all.push((pod, containers));
    }
    all
}

pub(super) async fn summary(server: &Server) -> Answer {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let of = |stats: &Stats| {
        json!({
            "cpu": { "time": now, "usageCoreNanoSeconds": stats.cpu_nanos },
            "memory": { "time": now, "usageBytes": stats.memory_bytes, "rssBytes": stats.memory_rss_bytes,
                "workingSetBytes": stats.memory_working_set_bytes },
        })
    };
    let mut pods = Vec::new();
    for (pod, containers) in usage(server).await {
        let mut total = Stats::default();
        let mut list = Vec::new();
        for (name, stats) in &containers {
            total.cpu_nanos += stats.cpu_nanos;
            total.memory_bytes += stats.memory_bytes;
            total.memory_rss_bytes += stats.memory_rss_bytes;
            total.memory_working_set_bytes += stats.memory_working_set_bytes;
            let mut one = of(stats);
            one["name"] = Value::from(name.clone());
            list.push(one);
        }
        let mut entry = of(&total);
        entry["podRef"] = json!({ "name": pod::name(&pod), "namespace": pod::namespace(&pod), "uid": pod::uid(&pod) });
        entry["containers"] = Value::from(list);
        pods.push(entry);
    }
    let used = server.context.capacity.memory_bytes - crate::node::meminfo("MemAvailable:");
    let node = json!({
        "nodeName": server.context.config.node_name,
        "memory": { "time": now, "workingSetBytes": used, "availableBytes": crate::node::meminfo("MemAvailable:") },
    });
    super::json(&json!({ "node": node, "pods": pods }))
}

pub(super) async fn metrics(server: &Server) -> Answer {
    let usage = usage(server).await;
    let running: usize = usage.iter().map(|(_, containers)| containers.len()).sum();
    let mut out = format!(
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n# HELP kubelet_running_containers Number of currently running containers\n# TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {running}\n",
        server.context.runtime.sandboxes().iter().filter(|sandbox| sandbox.ready).count(),
    );
    for (pod, containers) in usage {
        for (name, stats) in containers {
            let of = format!("container={name:?},namespace={:?},pod={:?}", pod::namespace(&pod), pod::name(&pod));
            out.push_str(&format!(
                "container_cpu_usage_seconds_total{{{of}}} {}\ncontainer_memory_working_set_bytes{{{of}}} {}\n",
                stats.cpu_nanos as f64 / 1e9,
                stats.memory_working_set_bytes
            ));
        }
    }
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(out))
}
