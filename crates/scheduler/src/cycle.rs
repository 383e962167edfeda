//! One pod's turn: the plugins look at it, filters leave the nodes that will do, scores choose among them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::cache::{Cache, Slot};
use crate::diagnosis::{Diagnosis, Refusal};
use crate::framework::{Cycle, Filter, Framework, PluginSet, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// So many nodes that will do are looked for at least, upstream's `minFeasibleNodesToFind`,
const LEAST_NODES: usize = 100;
/// and this part of all, `minFeasibleNodesPercentageToFind`.
const LEAST_PERCENTAGE: usize = 5;

/// What goes on from one pod's turn to the next.
pub struct Scheduling {
    /// Search ends when so many of a hundred nodes are found that will do; zero for less the more nodes there are.
    percentage: usize,
    /// The next search begins here, so that each node has its chance.
    start: usize,
    random: SmallRng,
    found: Vec<Slot>,
    scores: Vec<i64>,
    totals: Vec<i64>,
}

/// How a turn ends.
pub enum Verdict {
    Node(Slot),
    /// There are none at all.
    NoNodes,
    Unfit(Diagnosis),
    /// Something isn't as it should be, said in words for people.
    Error(String),
}

/// The filters for one pod, each with its plugin's place in the table.
pub struct Filters<'a> {
    pub pod: &'a PodInfo,
    pub filters: Vec<(usize, Box<dyn Filter + 'a>)>,
}

/// What all plugins together say of a pod before any node is looked at.
enum Before<'a> {
    Filters { filters: Filters<'a>, within: Option<BTreeSet<String>>, by: PluginSet },
    Rejected { plugins: PluginSet, why: Cow<'static, str> },
    Error(String),
}

impl Scheduling {
    /// `percentage` is upstream's `percentageOfNodesToScore`.
    pub fn new(percentage: usize, seed: u64) -> Self {
        Self {
            percentage,
            start: 0,
            random: SmallRng::seed_from_u64(seed),
            found: Vec::new(),
            scores: Vec::new(),
            totals: Vec::new(),
        }
    }

    /// Finds the node for `pod`.
    pub fn schedule(&mut self, framework: &Framework, cache: &mut Cache, pod: &PodInfo) -> Verdict {
        let all = cache.nodes().len();
        if all == 0 {
            return Verdict::NoNodes;
        }
        let cycle = Cycle { pod, cache };
        let mut diagnosis = Diagnosis::new(all);
        match before(framework, cycle) {
            Before::Error(error) => return Verdict::Error(error),
            Before::Rejected { plugins, why } => {
                diagnosis.reject(plugins, why);
                after(framework, cycle, &mut Filters { pod, filters: Vec::new() }, &mut diagnosis);
                return Verdict::Unfit(diagnosis);
            }
            Before::Filters { mut filters, within, by } => {
                self.find(cycle, &mut filters, within, &mut diagnosis);
                if let Some(names) = by_names(framework, by) {
                    diagnosis.absent(by, names);
                }
                if self.found.is_empty() {
                    after(framework, cycle, &mut filters, &mut diagnosis);
                    return Verdict::Unfit(diagnosis);
                }
            }
        }
        match self.best(framework, cycle) {
            Ok(slot) => Verdict::Node(slot),
            Err(error) => Verdict::Error(error),
        }
    }

    /// Leaves the nodes that will do in `found`, and why the others won't in the diagnosis.
    fn find(
        &mut self,
        cycle: Cycle<'_>,
        filters: &mut Filters<'_>,
        within: Option<BTreeSet<String>>,
        diagnosis: &mut Diagnosis,
    ) {
        self.found.clear();
        // Made free for it by preemption: most probably the only one that will do.
        if let Some(slot) = cycle.pod.nominated_node.as_deref().and_then(|name| cycle.cache.find(name))
            && filters.judge_with_nominated(cycle.cache, slot).is_ok()
        {
            self.found.push(slot);
            return;
        }
        let all = cycle.cache.ordered();
        let named: Vec<Slot>;
        let nodes = match &within {
            None => all,
            Some(names) => {
                named = names.iter().filter_map(|name| cycle.cache.find(name)).collect();
                &named
            }
        };
        let enough = self.enough(nodes.len());
        let mut looked_at = 0;
        for at in 0..nodes.len() {
            let slot = nodes[(self.start + at) % nodes.len()];
            looked_at += 1;
            match filters.judge_with_nominated(cycle.cache, slot) {
                Ok(()) => self.found.push(slot),
                Err((plugin, rejection)) => diagnosis.refusals.push(Refusal { slot, plugin, rejection }),
            }
            if self.found.len() >= enough {
                break;
            }
        }
        self.start = (self.start + looked_at) % all.len();
    }

    /// Upstream's `numFeasibleNodesToFind`.
    fn enough(&self, nodes: usize) -> usize {
        if nodes < LEAST_NODES {
            return nodes;
        }
        let percentage = match self.percentage {
            0 => 50usize.saturating_sub(nodes / 125).max(LEAST_PERCENTAGE),
            percentage => percentage,
        };
        (nodes * percentage / 100).max(LEAST_NODES)
    }

    /// The node with the highest sum of scores; of several, any.
    fn best(&mut self, framework: &Framework, cycle: Cycle<'_>) -> Result<Slot, String> {
        if let [only] = self.found[..] {
            return Ok(only);
        }
        self.totals.clear();
        self.totals.resize(self.found.len(), 0);
        for (_, plugin) in framework.plugins() {
            let scorer = plugin.pre_score(cycle, &self.found);
            let scorer = scorer.map_err(|error| format!("running PreScore plugin {:?}: {error}", plugin.name()))?;
            let Some(scorer) = scorer else { continue };
            self.scores.clear();
            self.scores.extend(self.found.iter().map(|slot| scorer.score(cycle.cache.node(*slot))));
            scorer.normalize(&mut self.scores);
            for (total, score) in self.totals.iter_mut().zip(&self.scores) {
                *total += plugin.weight() * score;
            }
        }
        let (mut best, mut equals) = (0, 1u32);
        for at in 1..self.found.len() {
            match self.totals[at].cmp(&self.totals[best]) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => (best, equals) = (at, 1),
                std::cmp::Ordering::Equal => {
                    equals += 1;
                    if self.random.random_range(0..equals) == 0 {
                        best = at;
                    }
                }
            }
        }
        Ok(self.found[best])
    }
}

/// Asks the plugins what could be done for a pod that fits nowhere.
fn after(framework: &Framework, cycle: Cycle<'_>, filters: &mut Filters<'_>, diagnosis: &mut Diagnosis) {
    for (_, plugin) in framework.plugins() {
        if let Some(answer) = plugin.post_filter(cycle, filters, diagnosis) {
            diagnosis.answered(answer);
        }
    }
}

fn before<'a>(framework: &Framework, cycle: Cycle<'a>) -> Before<'a> {
    let mut filters = Filters { pod: cycle.pod, filters: Vec::new() };
    let mut within: Option<BTreeSet<String>> = None;
    let mut by = PluginSet::default();
    for (at, plugin) in framework.plugins() {
        match plugin.pre_filter(cycle) {
            PreFilter::Skip => {}
            PreFilter::Filter(filter) => filters.filters.push((at, filter)),
            PreFilter::Within(names, filter) => {
                filters.filters.push((at, filter));
                by.insert(at);
                let left = match within {
                    None => names,
                    Some(held) => held.intersection(&names).cloned().collect(),
                };
                if left.is_empty() {
                    return Before::Rejected { plugins: by, why: nowhere(framework, by) };
                }
                within = Some(left);
            }
            PreFilter::Reject(why) => {
                let mut plugins = PluginSet::default();
                plugins.insert(at);
                return Before::Rejected { plugins, why };
            }
            PreFilter::Error(error) => {
                return Before::Error(format!("running PreFilter plugin {:?}: {error}", plugin.name()));
            }
        }
    }
    Before::Filters { filters, within, by }
}

/// No node is in all the sets that these plugins named.
fn nowhere(framework: &Framework, plugins: PluginSet) -> Cow<'static, str> {
    let names = sorted_names(framework, plugins);
    match &names[..] {
        [only] => format!("node(s) didn't satisfy plugin {only}").into(),
        _ => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", names.join(" ")).into(),
    }
}

/// Why nodes don't come into question that these plugins, if any, left out.
fn by_names(framework: &Framework, plugins: PluginSet) -> Option<Cow<'static, str>> {
    let names = sorted_names(framework, plugins);
    (!names.is_empty()).then(|| format!("node(s) didn't satisfy plugin(s) [{}]", names.join(" ")).into())
}

fn sorted_names(framework: &Framework, plugins: PluginSet) -> Vec<&'static str> {
    let mut names: Vec<_> = plugins.iter().map(|plugin| framework.plugin(plugin).name()).collect();
    names.sort_unstable();
    names
}

impl Filters<'_> {
    /// # Errors
    /// With the first plugin that refuses the node, and why.
    pub fn judge(&self, node: &NodeInfo) -> Result<(), (usize, Rejection)> {
        for (plugin, filter) in &self.filters {
            filter.filter(node).map_err(|rejection| (*plugin, rejection))?;
        }
        Ok(())
    }

    /// As [`Filters::judge`], also with the pods on it for which room was made there and which the pod must let pass.
    ///
    /// # Errors
    /// With the first plugin that refuses the node, and why.
    pub fn judge_with_nominated(&mut self, cache: &Cache, slot: Slot) -> Result<(), (usize, Rejection)> {
        self.judge_beside_nominated(cache, cache.node(slot))
    }

    /// As [`Filters::judge_with_nominated`], of a node that isn't quite as the cache has it.
    ///
    /// # Errors
    /// With the first plugin that refuses the node, and why.
    pub fn judge_beside_nominated(&mut self, cache: &Cache, node: &NodeInfo) -> Result<(), (usize, Rejection)> {
        let pod = self.pod;
        let first = |other: &&_| {
            let other: &std::sync::Arc<PodInfo> = other;
            other.priority >= pod.priority && other.uid != pod.uid
        };
        let nominated: Vec<_> = cache.nominated(&node.name).iter().filter(first).cloned().collect();
        if nominated.is_empty() {
            return self.judge(node);
        }
        let mut full = node.clone();
        for pod in &nominated {
            full.add(pod.clone());
            self.add(pod, &full);
        }
        let verdict = self.judge(&full);
        for pod in &nominated {
            self.remove(pod, &full);
        }
        // They may end up elsewhere: it must do without them, too.
        verdict.and_then(|()| self.judge(node))
    }

    pub fn add(&mut self, pod: &PodInfo, node: &NodeInfo) {
        for (_, filter) in &mut self.filters {
            filter.add(pod, node);
        }
    }

    pub fn remove(&mut self, pod: &PodInfo, node: &NodeInfo) {
        for (_, filter) in &mut self.filters {
            filter.remove(pod, node);
        }
    }
}

#[cfg(test)]
mod tests;
