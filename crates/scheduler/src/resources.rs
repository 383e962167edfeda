//! What pods ask for and what nodes have, parsed once into integers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a container counts for in scores when it asks for nothing, upstream's `DefaultMilliCPURequest` and
/// `DefaultMemoryRequest`: nobody uses nothing.
pub const DEFAULT_MILLI_CPU: i64 = 100;
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages and attachable volumes by name, sorted.
    pub scalars: Vec<(Box<str>, i64)>,
}

/// What a pod takes from its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub resources: Resources,
    /// With the defaults for containers that ask for none.
    pub scored: Scored,
}

/// The resources that scores look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scored {
    pub milli_cpu: i64,
    pub memory: i64,
}

type List = BTreeMap<String, Quantity>;

impl Resources {
    /// A node's `status.allocatable`. What isn't a quantity counts as none.
    pub fn of_list(list: &List) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            resources.set(name, quantity);
        }
        resources
    }

    pub fn scalar(&self, name: &str) -> i64 {
        match self.scalars.binary_search_by(|(held, _)| (**held).cmp(name)) {
            Ok(at) => self.scalars[at].1,
            Err(_) => 0,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |held, more| held.saturating_add(more));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |held, less| held.saturating_sub(less));
    }

    /// The greater of each.
    pub fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, how: fn(i64, i64) -> i64) {
        self.milli_cpu = how(self.milli_cpu, other.milli_cpu);
        self.memory = how(self.memory, other.memory);
        self.ephemeral_storage = how(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let held = self.scalar_mut(name);
            *held = how(*held, *amount);
        }
    }

    fn set(&mut self, name: &str, quantity: &Quantity) {
        let Ok(amount) = tug_api::Quantity::parse(&quantity.0) else { return };
        match name {
            "cpu" => self.milli_cpu = amount.milli_value(),
            "memory" => self.memory = amount.value(),
            "ephemeral-storage" => self.ephemeral_storage = amount.value(),
            name if is_scalar(name) => *self.scalar_mut(name) = amount.value(),
            _ => {}
        }
    }

    fn scalar_mut(&mut self, name: &str) -> &mut i64 {
        let at = match self.scalars.binary_search_by(|(held, _)| (**held).cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.scalars.insert(at, (name.into(), 0));
                at
            }
        };
        &mut self.scalars[at].1
    }
}

/// Upstream's `IsScalarResourceName`.
fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

impl Scored {
    pub fn add(&mut self, other: Self) {
        self.milli_cpu += other.milli_cpu;
        self.memory += other.memory;
    }

    pub fn subtract(&mut self, other: Self) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
    }
}

impl Requests {
    /// Upstream's `PodRequests`: the containers' sum, at least what each init container needs beside the sidecars before
    /// it; what the pod as a whole asks for takes its place; then the overhead. A running pod that is being resized
    /// counts with the most of what it asks for, was given and uses.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let status = pod.status.as_ref();
        let infeasible = status.is_some_and(|status| {
            let pending = status.conditions.iter().flatten().find(|c| c.type_ == "PodResizePending");
            pending.is_some_and(|c| c.reason.as_deref() == Some("Infeasible"))
        });
        let find = |statuses: Option<&Vec<ContainerStatus>>, name: &str| {
            statuses.into_iter().flatten().find(|status| status.name == name).cloned()
        };
        let mut sum = Sum::default();
        for container in &spec.containers {
            let status = status.and_then(|s| find(s.container_statuses.as_ref(), &container.name));
            sum.add(&Sum::of(container, status.as_ref(), infeasible));
        }
        let (mut sidecars, mut most) = (Sum::default(), Sum::default());
        for container in spec.init_containers.iter().flatten() {
            if container.restart_policy.as_deref() == Some("Always") {
                let status = status.and_then(|s| find(s.init_container_statuses.as_ref(), &container.name));
                let needs = Sum::of(container, status.as_ref(), infeasible);
                sum.add(&needs);
                sidecars.add(&needs);
                most.raise(&sidecars);
            } else {
                let mut needs = Sum::of(container, None, infeasible);
                needs.add(&sidecars);
                most.raise(&needs);
            }
        }
        sum.raise(&most);
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let whole_set = sum.replace(whole.into_iter().flatten());
        let Sum { mut plain, mut scored, cpu_asked, memory_asked } = sum;
        // With a request for the whole pod the defaults stand in only for what nobody asks for.
        if whole_set && cpu_asked {
            scored.milli_cpu = plain.milli_cpu;
        }
        if whole_set && memory_asked {
            scored.memory = plain.memory;
        }
        let overhead = spec.overhead.as_ref().map(Resources::of_list).unwrap_or_default();
        plain.add(&overhead);
        scored.add(Scored { milli_cpu: overhead.milli_cpu, memory: overhead.memory });
        Self { resources: plain, scored }
    }
}

/// Requests of some containers, with and without defaults.
#[derive(Clone, Default)]
struct Sum {
    plain: Resources,
    scored: Scored,
    cpu_asked: bool,
    memory_asked: bool,
}

impl Sum {
    fn of(container: &Container, status: Option<&ContainerStatus>, infeasible: bool) -> Self {
        let asked = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let used = status.and_then(|status| status.resources.as_ref());
        let lists: Vec<&List> = match (status, used) {
            (Some(status), Some(used)) => {
                let asked = asked.filter(|_| !infeasible);
                [asked, used.requests.as_ref(), status.allocated_resources.as_ref()].into_iter().flatten().collect()
            }
            _ => asked.into_iter().collect(),
        };
        let mut plain = Resources::default();
        for list in &lists {
            plain.raise(&Resources::of_list(list));
        }
        let has = |name| lists.iter().any(|list| list.contains_key(name));
        let (cpu_asked, memory_asked) = (has("cpu"), has("memory"));
        let scored = Scored {
            milli_cpu: if cpu_asked { plain.milli_cpu } else { DEFAULT_MILLI_CPU },
            memory: if memory_asked { plain.memory } else { DEFAULT_MEMORY },
        };
        Self { plain, scored, cpu_asked, memory_asked }
    }

    fn add(&mut self, other: &Self) {
        self.plain.add(&other.plain);
        self.scored.add(other.scored);
        self.note(other);
    }

    fn raise(&mut self, other: &Self) {
        self.plain.raise(&other.plain);
        self.scored.milli_cpu = self.scored.milli_cpu.max(other.scored.milli_cpu);
        self.scored.memory = self.scored.memory.max(other.scored.memory);
        self.note(other);
    }

    fn note(&mut self, other: &Self) {
        self.cpu_asked |= other.cpu_asked;
        self.memory_asked |= other.memory_asked;
    }

    /// Puts the pod's own requests in the place of its containers'. False when it has none that count.
    fn replace<'a>(&mut self, whole: impl Iterator<Item = (&'a String, &'a Quantity)>) -> bool {
        let mut replaced = false;
        for (name, quantity) in whole {
            if !matches!(name.as_str(), "cpu" | "memory") && !name.starts_with("hugepages-") {
                continue;
            }
            self.plain.set(name, quantity);
            self.cpu_asked |= name == "cpu";
            self.memory_asked |= name == "memory";
            replaced = true;
        }
        replaced
    }
}

#[cfg(test)]
mod tests;
