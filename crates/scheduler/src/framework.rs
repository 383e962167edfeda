//! What a plugin is. It looks at a pod once and makes from it a filter, which then judges node after node, and a
//! scorer, which orders the nodes that are left. The table of plugins is in [`crate::plugins`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::cache::{Cache, Slot};
use crate::change::{Change, Kinds};
use crate::cycle::Filters;
use crate::diagnosis::{Answer, Diagnosis};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// The best score of a node; what plugins give lies between zero and this once it is normalized.
pub const MAX_SCORE: i64 = 100;

/// One pod's turn.
#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub cache: &'a Cache,
}

/// A rule of scheduling. Its methods have upstream's extension points' names; each does nothing unless it is written.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// False keeps the pod out of the queue, until a change that this plugin says helps.
    fn pre_enqueue(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn pre_filter<'a>(&self, _cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// What could be done for a pod that fits nowhere.
    fn post_filter(&self, _cycle: Cycle<'_>, _filters: &mut Filters<'_>, _why: &Diagnosis) -> Option<Answer> {
        None
    }

    /// Claims of the pod whose volumes must be made where its node is before it is bound there.
    fn pre_bind(&self, _cycle: Cycle<'_>) -> Vec<String> {
        Vec::new()
    }

    /// `None` when all nodes are the same to it.
    ///
    /// # Errors
    /// If the pod's wishes can't be read.
    fn pre_score<'a>(&self, _cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        Ok(None)
    }

    /// What its scores count in the sum.
    fn weight(&self) -> i64 {
        1
    }

    /// Which changes may make it change its mind.
    fn events(&self) -> Kinds {
        Kinds::NONE
    }

    /// Whether this change, of one of its [`Plugin::events`], may help a pod that it turned away.
    fn helps(&self, _pod: &PodInfo, _change: &Change) -> bool {
        true
    }
}

/// What a plugin has to say of a pod before it sees any node.
pub enum PreFilter<'a> {
    /// Any node will do.
    Skip,
    Filter(Box<dyn Filter + 'a>),
    /// Only nodes of these names come into question, and those only if they pass.
    Within(BTreeSet<String>, Box<dyn Filter + 'a>),
    /// No node will do, whatever goes from it: why.
    Reject(Cow<'static, str>),
    /// Something isn't as it should be; tried again later.
    Error(String),
}

/// Judges nodes for one pod.
pub trait Filter {
    /// # Errors
    /// With why the pod can't be on this node.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// From now on as if `pod` were on `node` too.
    fn add(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}

    /// From now on as if `pod` weren't on `node`.
    fn remove(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}
}

/// Scores nodes for one pod.
pub trait Score {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes that are left between zero and [`MAX_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Why a pod can't be on a node, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Also not if other pods went.
    pub unresolvable: bool,
    pub reasons: Vec<Cow<'static, str>>,
}

impl Rejection {
    /// Other pods may go.
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { unresolvable: false, reasons: vec![reason.into()] }
    }

    /// No pod's going would help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { unresolvable: true, reasons: vec![reason.into()] }
    }
}

/// Upstream's `DefaultNormalizeScore`: the highest becomes [`MAX_SCORE`], or zero when `reverse`d.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { MAX_SCORE * *score / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

/// The plugins in use, in their order.
pub struct Framework {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Framework {
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        assert!(plugins.len() <= u32::BITS as usize, "a PluginSet holds them all");
        Self { plugins }
    }

    pub fn plugins(&self) -> impl Iterator<Item = (usize, &dyn Plugin)> {
        self.plugins.iter().map(|plugin| &**plugin).enumerate()
    }

    pub fn plugin(&self, at: usize) -> &dyn Plugin {
        &*self.plugins[at]
    }

    /// The plugin of this name alone.
    pub fn named(&self, name: &str) -> PluginSet {
        let mut set = PluginSet::default();
        if let Some(at) = self.plugins.iter().position(|plugin| plugin.name() == name) {
            set.insert(at);
        }
        set
    }

    /// The first plugin that keeps the pod out of the queue.
    pub fn gate(&self, pod: &PodInfo) -> Option<usize> {
        self.plugins.iter().position(|plugin| !plugin.pre_enqueue(pod))
    }

    /// What may make one of these plugins change its mind.
    pub fn events(&self, plugins: PluginSet) -> Kinds {
        plugins.iter().fold(Kinds::NONE, |kinds, plugin| kinds | self.plugins[plugin].events())
    }
}

/// Plugins by their places in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluginSet(u32);

impl PluginSet {
    pub fn insert(&mut self, plugin: usize) {
        self.0 |= 1 << plugin;
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..u32::BITS as usize).filter(move |plugin| self.0 & (1 << plugin) != 0)
    }
}
