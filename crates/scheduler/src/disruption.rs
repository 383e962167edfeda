//! PodDisruptionBudgets, as far as preemption minds them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tug_api::{ObjectKey, Selector};

use crate::pod::{self, PodInfo};

/// All budgets, by namespace and name.
#[derive(Default)]
pub struct Budgets(HashMap<String, BTreeMap<String, Budget>>);

struct Budget {
    selector: Selector,
    allowed: i32,
    /// Names of pods whose end is counted in `allowed` already.
    disrupted: BTreeSet<String>,
}

impl Budgets {
    pub fn put(&mut self, key: &ObjectKey, budget: &PodDisruptionBudget) {
        let spec = budget.spec.as_ref();
        let selector = spec.and_then(|spec| pod::selector(spec.selector.as_ref()).ok()?);
        // One that selects nothing, or everything, minds no pod.
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { return self.remove(key) };
        let status = budget.status.as_ref();
        let budget = Budget {
            selector,
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: status
                .and_then(|s| s.disrupted_pods.as_ref())
                .into_iter()
                .flat_map(|p| p.keys().cloned())
                .collect(),
        };
        self.0.entry(key.namespace.clone()).or_default().insert(key.name.clone(), budget);
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some(budgets) = self.0.get_mut(&key.namespace) {
            budgets.remove(&key.name);
        }
    }

    /// Parts pods into those whose end would be one too many for a budget, if all before them ended, and the others.
    pub fn violated_by(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let mut ended: HashMap<(&str, &str), i32> = HashMap::new();
        pods.into_iter().partition(|pod| {
            let budgets = self.0.get(&pod.key.namespace).into_iter().flatten();
            let mut violates = false;
            for (name, budget) in budgets {
                if pod.labels.is_empty()
                    || !budget.selector.matches(&pod.labels)
                    || budget.disrupted.contains(&pod.key.name)
                {
                    continue;
                }
                let Some((namespace, _)) = self.0.get_key_value(&pod.key.namespace) else { continue };
                let count = ended.entry((namespace, name)).or_default();
                *count += 1;
                violates |= *count > budget.allowed;
            }
            violates
        })
    }
}
