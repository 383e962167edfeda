//! `/metrics`, in Prometheus' text format and under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::request::RequestInfo;

/// Upper bounds in seconds, a part of upstream's.
const BUCKETS: &[f64] = &[0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];
/// Label sets kept; what comes after is counted together, so that made-up paths cost no memory.
const SERIES: usize = 2000;

#[derive(Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<Labels, Series>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

#[derive(Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

impl Metrics {
    pub fn count(&self, info: &RequestInfo, code: u16, took: Duration) {
        let known = info.is_resource
            && (code != 404 || tug_api::kinds::by_resource(&info.group, &info.version, &info.resource).is_some());
        let labels = if known {
            Labels {
                verb: info.verb.to_ascii_uppercase(),
                group: info.group.clone(),
                version: info.version.clone(),
                resource: info.resource.clone(),
                subresource: info.subresource.clone(),
                scope: match (info.namespace.is_empty(), info.name.is_empty()) {
                    (_, false) => "resource",
                    (false, true) => "namespace",
                    (true, true) => "cluster",
                },
                code,
            }
        } else {
            Labels { verb: info.verb.to_ascii_uppercase(), code, ..Labels::default() }
        };
        let mut all = self.series.lock();
        let labels = if all.len() < SERIES || all.contains_key(&labels) { labels } else { Labels::default() };
        let series = all.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        // How long a watch lasted says nothing about how fast the server is.
        if info.is_long_running() {
            return;
        }
        series.seconds += seconds;
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[bucket] += 1;
        }
    }

    pub fn text(&self, cache: &Cache) -> String {
        let mut out = String::with_capacity(16 << 10);
        let all = self.series.lock();
        out.push_str("# HELP apiserver_request_total Requests by verb, resource, scope and code.\n");
        out.push_str("# TYPE apiserver_request_total counter\n");
        for (labels, series) in &*all {
            line(&mut out, "apiserver_request_total", &labels.text(true), series.count);
        }
        out.push_str("# HELP apiserver_request_duration_seconds Time to answer, by verb, resource and scope.\n");
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        let mut merged: BTreeMap<String, Series> = BTreeMap::new();
        for (labels, series) in &*all {
            let into = merged.entry(labels.text(false)).or_default();
            into.count += series.count;
            into.seconds += series.seconds;
            into.buckets.iter_mut().zip(series.buckets).for_each(|(sum, count)| *sum += count);
        }
        drop(all);
        let name = "apiserver_request_duration_seconds";
        for (labels, series) in merged {
            let mut sum = 0;
            for (bound, count) in BUCKETS.iter().zip(series.buckets) {
                sum += count;
                line(&mut out, &format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), sum);
            }
            line(&mut out, &format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), series.count);
            line(&mut out, &format!("{name}_sum"), &labels, series.seconds);
            line(&mut out, &format!("{name}_count"), &labels, series.count);
        }
        out.push_str("# HELP apiserver_storage_objects Objects kept, by resource.\n");
        out.push_str("# TYPE apiserver_storage_objects gauge\n");
        for (kind, count) in cache.counts() {
            let resource = crate::status::group_resource(kind.group, kind.plural);
            line(&mut out, "apiserver_storage_objects", &format!("resource=\"{resource}\""), count);
        }
        out.push_str("# HELP apiserver_storage_revision The newest revision of the store.\n");
        out.push_str("# TYPE apiserver_storage_revision gauge\n");
        out.push_str(&format!("apiserver_storage_revision {}\n", cache.revision()));
        out
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name}{{{labels}}} {value}").expect("writing to a string");
}

impl Labels {
    fn text(&self, with_code: bool) -> String {
        let Self { verb, group, version, resource, subresource, scope, code } = self;
        let mut text = format!(
            "verb={verb:?},group={group:?},version={version:?},resource={resource:?},subresource={subresource:?},scope={scope:?}"
        );
        if with_code {
            text.push_str(&format!(",code=\"{code}\""));
        }
        text
    }
}
