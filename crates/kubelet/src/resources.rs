//! Requests and limits: quantities as numbers, and as cgroup limits of containers and pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod;
use crate::runtime::Limits;

const SHARES_PER_CPU: i64 = 1024;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const PERIOD_MICROS: i64 = 100_000;
const MIN_QUOTA_MICROS: i64 = 1000;

/// Thousandths; 0 for what isn't a quantity, which the API server doesn't let through.
pub fn milli_of(quantity: &Quantity) -> i64 {
    tug_api::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.milli_value())
}

pub fn bytes_of(quantity: &Quantity) -> i64 {
    tug_api::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.value())
}

fn amount(resources: &ResourceRequirements, name: &str, convert: fn(&Quantity) -> i64) -> (i64, i64) {
    let of = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().and_then(|list| list.get(name)).map(convert);
    let limit = of(&resources.limits).unwrap_or(0);
    (of(&resources.requests).unwrap_or(limit), limit)
}

/// cgroup limits of one container. The last two are the defaults of upstream's `memorySwap.swapBehavior` and
/// `singleProcessOOMKill` on cgroup v2.
pub fn container_limits(container: &Container) -> Limits {
    let (cpu, memory) = container.resources.as_ref().map_or(((0, 0), (0, 0)), both);
    Limits { no_swap: true, oom_kills_all: true, ..limits(cpu.0, cpu.1, memory.1) }
}

fn both(resources: &ResourceRequirements) -> ((i64, i64), (i64, i64)) {
    (amount(resources, "cpu", milli_of), amount(resources, "memory", bytes_of))
}

/// Amounts of resources by name, in thousandths.
pub type Totals = BTreeMap<String, i64>;

type Part = fn(&ResourceRequirements) -> &Option<BTreeMap<String, Quantity>>;

/// What a pod asks for: its ordinary containers and sidecars together, or at least what the greediest init container
/// takes beside the sidecars before it; what the pod itself says counts before that (upstream's `PodRequests`).
pub fn pod_requests(spec: &PodSpec) -> Totals {
    totals(spec, |resources| &resources.requests)
}

fn totals(spec: &PodSpec, part: Part) -> Totals {
    let of = |resources: Option<&ResourceRequirements>| -> Totals {
        let list = resources.and_then(|resources| part(resources).as_ref());
        list.into_iter().flatten().map(|(name, quantity)| (name.clone(), milli_of(quantity))).collect()
    };
    let add = |to: &mut Totals, more: &Totals| {
        for (name, milli) in more {
            *to.entry(name.clone()).or_default() += milli;
        }
    };
    let (mut total, mut sidecars, mut init) = (Totals::new(), Totals::new(), Totals::new());
    for container in &spec.containers {
        add(&mut total, &of(container.resources.as_ref()));
    }
    for container in pod::init_containers(spec) {
        let mut peak = of(container.resources.as_ref());
        if pod::is_sidecar(container) {
            add(&mut total, &peak);
            add(&mut sidecars, &peak);
            peak = sidecars.clone();
        } else {
            add(&mut peak, &sidecars);
        }
        for (name, milli) in peak {
            let known = init.entry(name).or_default();
            *known = milli.max(*known);
        }
    }
    for (name, milli) in init {
        let known = total.entry(name).or_default();
        *known = milli.max(*known);
    }
    total.extend(of(spec.resources.as_ref()));
    total
}

/// What all containers together may take of the node's disk; `None` if none of them says (upstream's `PodLimits`).
pub fn ephemeral_storage_limit(spec: &PodSpec) -> Option<Quantity> {
    let milli = *totals(spec, |resources| &resources.limits).get("ephemeral-storage")?;
    let containers = spec.containers.iter().chain(pod::init_containers(spec));
    let said = containers.filter_map(|c| c.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")).next()?;
    let format = tug_api::Quantity::parse(&said.0).ok()?.format();
    Some(Quantity(tug_api::Quantity::from_value(milli / 1000, format).to_string()))
}

/// cgroup limits of the whole pod: a limit only where every container has one, or the pod itself (upstream's
/// `ResourceConfigForPod`).
pub fn pod_limits(spec: &PodSpec) -> Limits {
    let limits_of = |resources: Option<&ResourceRequirements>, name: &str| {
        resources.and_then(|resources| resources.limits.as_ref()?.get(name)).map_or(0, milli_of)
    };
    let totals = totals(spec, |resources| &resources.limits);
    let limit = |name: &str| {
        let all = || {
            let mut containers = spec.containers.iter().chain(pod::init_containers(spec));
            containers.all(|container| limits_of(container.resources.as_ref(), name) > 0)
        };
        let declared = limits_of(spec.resources.as_ref(), name) > 0 || all();
        totals.get(name).copied().filter(|_| declared).unwrap_or(0)
    };
    let request = pod_requests(spec).get("cpu").copied().unwrap_or(0);
    limits(request, limit("cpu"), limit("memory") / 1000)
}

/// A processor request as cgroup v1 has it (upstream's `MilliCPUToShares`).
pub fn shares(milli: i64) -> u64 {
    (milli * SHARES_PER_CPU / 1000).clamp(MIN_SHARES, MAX_SHARES) as u64
}

fn limits(cpu_request_milli: i64, cpu_limit_milli: i64, memory_bytes: i64) -> Limits {
    let (quota, period) = match cpu_limit_milli {
        ..=0 => (0, 0),
        milli => ((milli * PERIOD_MICROS / 1000).max(MIN_QUOTA_MICROS), PERIOD_MICROS as u64),
    };
    Limits {
        cpu_shares: shares(cpu_request_milli),
        cpu_quota_micros: quota,
        cpu_period_micros: period,
        memory_bytes: memory_bytes.max(0) as u64,
        ..Limits::default()
    }
}

/// What `resourceFieldRef` gives: the container's request or limit in units of `divisor`, rounded up; a missing limit
/// is what the node has.
pub fn field(
    container: &Container,
    resource: &str,
    divisor: &str,
    node_cpu_milli: i64,
    node_memory: i64,
) -> Option<String> {
    let (list, name) = resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let list = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return None,
    };
    let given = list.and_then(|list| list.get(name));
    let limit = resource.starts_with("limits.");
    let divisor = Quantity(if divisor.is_empty() || divisor == "0" { "1".into() } else { divisor.to_owned() });
    let value = match name {
        "cpu" => {
            let milli =
                given.map(milli_of).filter(|milli| *milli > 0).unwrap_or(if limit { node_cpu_milli } else { 0 });
            round_up(milli, milli_of(&divisor))
        }
        "memory" => {
            let bytes = given.map(bytes_of).filter(|bytes| *bytes > 0).unwrap_or(if limit { node_memory } else { 0 });
            round_up(bytes, bytes_of(&divisor))
        }
        _ if name == "ephemeral-storage" || name.starts_with("hugepages-") => {
            round_up(given.map_or(0, bytes_of), bytes_of(&divisor))
        }
        _ => return None,
    };
    Some(value.to_string())
}

fn round_up(value: i64, divisor: i64) -> i64 {
    let divisor = divisor.max(1);
    value / divisor + i64::from(value % divisor > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(resources: serde_json::Value) -> Container {
        serde_json::from_value(serde_json::json!({"name": "a", "resources": resources})).unwrap()
    }

    #[test]
    fn limits_of_containers() {
        // (resources, shares, quota, memory)
        let cases = [
            (serde_json::json!({}), 2, 0, 0),
            (serde_json::json!({"requests": {"cpu": "100m"}}), 102, 0, 0),
            (serde_json::json!({"limits": {"cpu": "1500m", "memory": "64Mi"}}), 1536, 150_000, 64 << 20),
            (serde_json::json!({"limits": {"cpu": "1m"}}), 2, 1000, 0),
        ];
        for (resources, shares, quota, memory) in cases {
            let limits = container_limits(&container(resources));
            assert_eq!((limits.cpu_shares, limits.cpu_quota_micros, limits.memory_bytes), (shares, quota, memory));
        }
    }

    #[test]
    fn a_pod_is_limited_only_when_all_its_containers_are() {
        // The API server has made requests of limits that stand alone.
        let both = |list: serde_json::Value| serde_json::json!({"requests": list, "limits": list});
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "initContainers": [{"name": "i", "resources": both(serde_json::json!({"cpu": "3", "memory": "1Mi"}))}],
            "containers": [
                {"name": "a", "resources": both(serde_json::json!({"cpu": "1", "memory": "64Mi"}))},
                {"name": "b", "resources": both(serde_json::json!({"cpu": "1"}))},
            ]
        }))
        .unwrap();
        let limits = pod_limits(&spec);
        assert_eq!(limits.cpu_shares, 3072);
        assert_eq!(limits.cpu_quota_micros, 300_000);
        assert_eq!(limits.memory_bytes, 0);
    }

    #[test]
    fn the_disks_limit_is_that_of_all_containers_together() {
        let asks = |limits: &[&str]| -> PodSpec {
            let limits = limits.iter().map(|limit| match *limit {
                "" => serde_json::json!({"name": "c"}),
                limit => serde_json::json!({"name": "c", "resources": {"limits": {"ephemeral-storage": limit}}}),
            });
            serde_json::from_value(serde_json::json!({"containers": limits.collect::<Vec<_>>()})).unwrap()
        };
        let cases: [(&[&str], _); 4] = [
            (&[""], None),
            (&["1Gi"], Some("1Gi")),
            (&["512Mi", "", "1536Mi"], Some("2Gi")),
            (&["1M", "1Ki"], Some("1001024")),
        ];
        for (limits, expected) in cases {
            assert_eq!(ephemeral_storage_limit(&asks(limits)).map(|limit| limit.0).as_deref(), expected, "{limits:?}");
        }
    }

    #[test]
    fn init_containers_need_room_beside_sidecars() {
        let asks = |cpu: &str| serde_json::json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let container = |name: &str, cpu: &str| serde_json::json!({"name": name, "resources": asks(cpu)});
        let sidecar = serde_json::json!({"name": "s", "restartPolicy": "Always", "resources": asks("200m")});
        // (init containers, the pod's own resources, what all take)
        let cases = [
            (vec![], serde_json::Value::Null, 100),
            (vec![container("i", "50m")], serde_json::Value::Null, 100),
            (vec![container("i", "500m"), sidecar.clone()], serde_json::Value::Null, 500),
            (vec![sidecar.clone(), container("i", "500m")], serde_json::Value::Null, 700),
            (vec![sidecar.clone()], serde_json::Value::Null, 300),
            (vec![sidecar], asks("50m"), 50),
        ];
        for (inits, own, milli) in cases {
            let spec = serde_json::json!({
                "initContainers": inits, "containers": [container("c", "100m")], "resources": own
            });
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(pod_requests(&spec)["cpu"], milli, "{spec:?}");
            assert_eq!(pod_limits(&spec).cpu_quota_micros, milli * 100, "{spec:?}");
        }
    }

    #[test]
    fn fields_are_rounded_up_in_units_of_the_divisor() {
        let container = container(serde_json::json!({"limits": {"cpu": "1500m", "memory": "65Mi"}}));
        let cases = [
            ("limits.cpu", "", Some("2")),
            ("limits.cpu", "1m", Some("1500")),
            ("limits.memory", "64Mi", Some("2")),
            ("limits.memory", "0", Some("68157440")),
            ("requests.cpu", "1", Some("0")),
            ("limits.nonsense", "1", None),
        ];
        for (resource, divisor, expected) in cases {
            assert_eq!(field(&container, resource, divisor, 4000, 1 << 30).as_deref(), expected, "{resource}");
        }
        let bare = super::tests::container(serde_json::json!({}));
        assert_eq!(field(&bare, "limits.cpu", "1", 4000, 1 << 30).as_deref(), Some("4"));
    }
}
