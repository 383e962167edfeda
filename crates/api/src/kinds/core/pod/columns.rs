//! What `kubectl get pods` shows (`printPod`): the STATUS column is worked out from all that the pod's containers say.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{age, age_of};
use crate::kind::Column;
use crate::kinds::cells::{NONE, name, or};
use crate::kinds::walk::{count, flag, list, some, text};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "How many of the pod's containers are ready, of how many."),
    Column::text("Status", "Where the pod stands, all its containers considered."),
    Column::text("Restarts", "How often its containers were restarted, and when last."),
    Column::AGE,
    Column::text("IP", "The pod's address.").wide(),
    Column::text("Node", "The node that the pod is bound to.").wide(),
    Column::text("Nominated Node", "The node on which room is being made for the pod.").wide(),
    Column::text("Readiness Gates", "How many of the pod's readiness gates are true, of how many.").wide(),
];

/// One pod's cells.
pub fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let gates = list(pod, "/spec/readinessGates");
    let gates = if gates.is_empty() {
        NONE.to_owned()
    } else {
        let open = gates.iter().filter(|gate| condition_is_true(pod, text(gate, "/conditionType"))).count();
        format!("{open}/{}", gates.len())
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.status.into(),
        summary.restarts.shown(now).into(),
        age_of(pod, now),
        or(text(pod, "/status/podIPs/0/ip"), NONE),
        or(text(pod, "/spec/nodeName"), NONE),
        or(text(pod, "/status/nominatedNodeName"), NONE),
        gates.into(),
    ]
}

struct Summary {
    ready: usize,
    containers: usize,
    status: String,
    restarts: Restarts,
}

#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    /// When the last one's forerunner ended; RFC 3339 in UTC, which sorts as it stands.
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += count(status, "/restartCount");
        let ended = text(status, "/lastState/terminated/finishedAt");
        if ended > self.last.as_str() {
            self.last = ended.to_owned();
        }
    }

    fn shown(&self, now: Timestamp) -> String {
        if self.count == 0 || self.last.is_empty() {
            return self.count.to_string();
        }
        format!("{} ({} ago)", self.count, age(Some(&self.last), now))
    }
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = text(pod, "/status/phase");
        let reason = text(pod, "/status/reason");
        let mut summary = Self {
            ready: 0,
            containers: list(pod, "/spec/containers").len()
                + list(pod, "/spec/initContainers").iter().filter(|container| restartable(container)).count(),
            status: if reason.is_empty() { phase } else { reason }.to_owned(),
            restarts: Restarts::default(),
        };
        let gated = list(pod, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == "PodScheduled" && text(condition, "/reason") == "SchedulingGated"
        });
        if gated {
            summary.status = "SchedulingGated".into();
        }
        let mut sidecar_restarts = Restarts::default();
        let initializing = summary.init_containers(pod, &mut sidecar_restarts);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.restarts = sidecar_restarts;
            summary.main_containers(pod);
        }
        if some(pod, "/metadata/deletionTimestamp").is_some() {
            if reason == "NodeLost" {
                summary.status = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.status = "Terminating".into();
            }
        }
        summary
    }

    /// True while an init container is still at work, or has failed.
    fn init_containers(&mut self, pod: &Value, sidecar_restarts: &mut Restarts) -> bool {
        let specs = list(pod, "/spec/initContainers");
        for (i, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            self.restarts.add(status);
            let sidecar = specs.iter().any(|spec| text(spec, "/name") == text(status, "/name") && restartable(spec));
            if sidecar {
                sidecar_restarts.add(status);
            }
            let ended = some(status, "/state/terminated");
            if ended.is_some_and(|ended| count(ended, "/exitCode") == 0) {
                continue;
            }
            if sidecar && flag(status, "/started") {
                self.ready += usize::from(flag(status, "/ready"));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.status = match ended {
                Some(ended) => format!("Init:{}", why_ended(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn main_containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            self.restarts.add(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if let Some(ended) = some(status, "/state/terminated") {
                self.status = why_ended(ended);
            } else if flag(status, "/ready") && some(status, "/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        // One container that ended well doesn't end the pod while another runs.
        if self.status == "Completed" && running {
            self.status = if condition_is_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
        }
    }
}

fn why_ended(ended: &Value) -> String {
    let reason = text(ended, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match count(ended, "/signal") {
        0 => format!("ExitCode:{}", count(ended, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn restartable(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn condition_is_true(pod: &Value, r#type: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == r#type && text(condition, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ready, status and restarts of a pod with containers `a` and `b`.
    fn shown(status: &Value, init: &Value, deleted: bool) -> [String; 3] {
        let mut pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": init},
            "status": status,
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z".into();
        }
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let row = row(&pod, now);
        assert_eq!(row.len(), COLUMNS.len());
        [1, 2, 3].map(|i| row[i].as_str().expect("text").to_owned())
    }

    #[test]
    fn status_is_what_upstream_prints() {
        let up = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
        let done = json!({"ready": false, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        let none = json!([]);
        let one = json!([{"name": "i"}, {"name": "j"}]);
        let sidecar = json!([{"name": "i", "restartPolicy": "Always"}]);
        let cases: &[(&str, Value, &Value, bool, [&str; 3])] = &[
            ("new", json!({"phase": "Pending"}), &none, false, ["0/2", "Pending", "0"]),
            (
                "running",
                json!({"phase": "Running", "containerStatuses": [up, up]}),
                &none,
                false,
                ["2/2", "Running", "0"],
            ),
            (
                "one waits",
                json!({"phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff"), up]}),
                &none,
                false,
                ["1/2", "ImagePullBackOff", "0"],
            ),
            (
                "one is done, not ready",
                json!({"phase": "Running", "containerStatuses": [up, done]}),
                &none,
                false,
                ["1/2", "NotReady", "0"],
            ),
            (
                "both are done",
                json!({"phase": "Succeeded", "containerStatuses": [done, done]}),
                &none,
                false,
                ["0/2", "Completed", "0"],
            ),
            (
                "ended without a reason",
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
                &none,
                false,
                ["0/2", "ExitCode:3", "0"],
            ),
            (
                "killed",
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
                &none,
                false,
                ["0/2", "Signal:9", "0"],
            ),
            (
                "restarted",
                json!({"phase": "Running", "containerStatuses": [up, {
                    "ready": true, "restartCount": 3, "state": {"running": {}},
                    "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:50Z"}},
                }]}),
                &none,
                false,
                ["2/2", "Running", "3 (10s ago)"],
            ),
            (
                "going",
                json!({"phase": "Running", "containerStatuses": [up, up]}),
                &none,
                true,
                ["2/2", "Terminating", "0"],
            ),
            ("evicted", json!({"phase": "Failed", "reason": "Evicted"}), &none, false, ["0/2", "Evicted", "0"]),
            (
                "first init container at work",
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                &one,
                false,
                ["0/2", "Init:0/2", "0"],
            ),
            (
                "second init container at work",
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}},
                ]}),
                &one,
                false,
                ["0/2", "Init:1/2", "0"],
            ),
            (
                "init container fails",
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
                ]}),
                &one,
                false,
                ["0/2", "Init:Error", "0"],
            ),
            (
                "init container backs off",
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                ]}),
                &one,
                false,
                ["0/2", "Init:CrashLoopBackOff", "2"],
            ),
            (
                "sidecar",
                json!({
                    "phase": "Running",
                    "initContainerStatuses": [{"name": "i", "started": true, "ready": true, "state": {"running": {}}}],
                    "containerStatuses": [up, up],
                }),
                &sidecar,
                false,
                ["3/3", "Running", "0"],
            ),
        ];
        for (case, status, init, deleted, expected) in cases {
            assert_eq!(shown(status, init, *deleted), *expected, "{case}");
        }
    }
}
