//! Domains: nodes that share the value of a label. Which node is in which is looked up once, for all pods.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::Slot;

/// A label's domains, numbered.
pub struct Topology {
    /// By slot. `None` for nodes without the label.
    of: Vec<Option<u32>>,
    domains: usize,
}

/// A number for each domain of a topology.
#[derive(Clone)]
pub struct PerDomain {
    topology: Arc<Topology>,
    numbers: Vec<i64>,
}

impl Topology {
    /// From each node's slot and its value of the label.
    pub fn new<'a>(slots: usize, values: impl Iterator<Item = (Slot, &'a str)>) -> Self {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut of = vec![None; slots];
        for (slot, value) in values {
            let next = u32::try_from(numbers.len()).expect("there are fewer domains than nodes");
            of[slot] = Some(*numbers.entry(value).or_insert(next));
        }
        Self { of, domains: numbers.len() }
    }

    /// The number of the node's domain, if it is in any.
    pub fn domain(&self, slot: Slot) -> Option<usize> {
        self.of.get(slot).copied().flatten().map(|domain| domain as usize)
    }

    pub fn domains(&self) -> usize {
        self.domains
    }
}

impl PerDomain {
    /// Zero for each.
    pub fn new(topology: Arc<Topology>) -> Self {
        Self { numbers: vec![0; topology.domains()], topology }
    }

    /// Nodes that are in no domain add to none.
    pub fn add(&mut self, slot: Slot, number: i64) {
        if let Some(domain) = self.topology.domain(slot) {
            self.numbers[domain] += number;
        }
    }

    /// The number of the node's domain; `None` for a node that is in none.
    pub fn at(&self, slot: Slot) -> Option<i64> {
        self.topology.domain(slot).map(|domain| self.numbers[domain])
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    pub fn numbers(&self) -> &[i64] {
        &self.numbers
    }

    pub fn is_zero(&self) -> bool {
        self.numbers.iter().all(|number| *number == 0)
    }
}
