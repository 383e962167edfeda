//! Why a pod fits nowhere, as people read it in events and in the pod's condition.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::cache::Slot;
use crate::framework::{PluginSet, Rejection};
use crate::pod::PodInfo;

/// What was found out of a pod that fits nowhere.
#[derive(Debug, Default)]
pub struct Diagnosis {
    nodes: usize,
    /// Before any node was looked at.
    rejected: Option<Cow<'static, str>>,
    pub refusals: Vec<Refusal>,
    /// Of nodes that weren't looked at.
    absent: Option<Cow<'static, str>>,
    left_out_by: PluginSet,
    /// What a plugin says of making room.
    after: Vec<String>,
    pub nomination: Nomination,
}

/// One node's no.
#[derive(Debug)]
pub struct Refusal {
    pub slot: Slot,
    pub plugin: usize,
    pub rejection: Rejection,
}

/// What becomes of the pod's `status.nominatedNodeName`.
#[derive(Debug, Default)]
pub enum Nomination {
    #[default]
    AsItIs,
    Nowhere,
    /// Room is made by ending these pods.
    Node {
        name: String,
        victims: Vec<Arc<PodInfo>>,
    },
}

/// What a plugin answers when a pod fits nowhere.
pub struct Answer {
    /// For people; empty if there is nothing to say.
    pub message: String,
    pub nomination: Nomination,
}

impl Diagnosis {
    pub fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    pub fn reject(&mut self, plugins: PluginSet, why: Cow<'static, str>) {
        self.left_out_by = plugins;
        self.rejected = Some(why);
    }

    /// The nodes that weren't looked at: why, and whose doing it was.
    pub fn absent(&mut self, plugins: PluginSet, why: Cow<'static, str>) {
        self.left_out_by = plugins;
        self.absent = Some(why);
    }

    pub fn answered(&mut self, answer: Answer) {
        if !answer.message.is_empty() {
            self.after.push(answer.message);
        }
        self.nomination = answer.nomination;
    }

    /// Who turned the pod away.
    pub fn turned_away_by(&self) -> PluginSet {
        let mut plugins = self.left_out_by;
        for refusal in &self.refusals {
            plugins.insert(refusal.plugin);
        }
        plugins
    }
}

/// Upstream's `FitError`.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.rejected {
            Some(why) => write!(f, " {why}.")?,
            None => {
                let reasons = self.refusals.iter().map(|refusal| &refusal.rejection.reasons[..]);
                let absent = self.absent.as_ref().map(|why| (&**why, self.nodes - self.refusals.len()));
                let histogram = histogram(reasons, absent);
                if !histogram.is_empty() {
                    write!(f, " {histogram}.")?;
                }
            }
        }
        if !self.after.is_empty() {
            write!(f, " {}", self.after.join(", "))?;
        }
        Ok(())
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`: how many nodes have each reason, in the order of the texts.
pub fn histogram<'a>(
    refusals: impl Iterator<Item = &'a [Cow<'static, str>]>,
    absent: Option<(&'a str, usize)>,
) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    if let Some((why, nodes)) = absent.filter(|(_, nodes)| *nodes > 0) {
        *counts.entry(why).or_default() += nodes;
    }
    let mut lines: Vec<_> = counts.into_iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
    lines.sort_unstable();
    lines.join(", ")
}
