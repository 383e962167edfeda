//! Which nodes a pod requires and prefers: `nodeSelector` and node affinity, also of volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm};
use tug_api::selector::{Operator, Requirement};

use crate::node::Node;

/// `nodeSelector` and the required half of node affinity, both of which must hold.
#[derive(Clone, Debug, Default)]
pub struct RequiredNodes {
    labels: Vec<(String, String)>,
    /// One of these must hold; `None` when there is no such affinity.
    terms: Option<Vec<Term>>,
}

/// The preferred half: terms with their weights.
#[derive(Clone, Debug, Default)]
pub struct PreferredNodes {
    terms: Vec<(i64, Term)>,
    /// Why a term can't be read.
    pub error: Option<String>,
}

/// All of its requirements must hold. One that can't be read holds nowhere.
#[derive(Clone, Debug)]
struct Term {
    expressions: Vec<Requirement>,
    fields: Vec<Requirement>,
    error: Option<String>,
}

impl RequiredNodes {
    pub fn of(labels: Option<&BTreeMap<String, String>>, affinity: Option<&NodeSelector>) -> Self {
        let labels = labels.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { labels, terms: affinity.map(|selector| terms(&selector.node_selector_terms)) }
    }

    /// Every node will do.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    pub fn matches(&self, node: &Node) -> bool {
        self.labels.iter().all(|(name, value)| node.labels.get(name) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The names of nodes outside of which no node matches, if the terms name them all.
    pub fn names(&self) -> Option<BTreeSet<String>> {
        let terms = self.terms.as_deref().filter(|terms| !terms.is_empty())?;
        let mut names = BTreeSet::new();
        for term in terms {
            let mut fields = term.fields.iter().filter(|r| r.key == "metadata.name" && r.operator == Operator::In);
            let first: BTreeSet<String> = fields.next()?.values.iter().cloned().collect();
            names.extend(fields.fold(first, |left, r| left.into_iter().filter(|n| r.values.contains(n)).collect()));
        }
        Some(names)
    }
}

impl PreferredNodes {
    pub fn of(terms: &[PreferredSchedulingTerm]) -> Self {
        let mut preferred = Self::default();
        for PreferredSchedulingTerm { weight, preference } in terms {
            if *weight == 0 || is_empty(preference) {
                continue;
            }
            let term = Term::of(preference);
            if preferred.error.is_none() {
                preferred.error = term.error.clone();
            }
            preferred.terms.push((i64::from(*weight), term));
        }
        preferred
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The sum of the weights of the terms that the node matches.
    pub fn score(&self, node: &Node) -> i64 {
        self.terms.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
    }
}

/// A term without requirements selects nothing.
fn is_empty(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.as_ref().is_none_or(Vec::is_empty) && term.match_fields.as_ref().is_none_or(Vec::is_empty)
}

fn terms(terms: &[NodeSelectorTerm]) -> Vec<Term> {
    terms.iter().filter(|term| !is_empty(term)).map(Term::of).collect()
}

impl Term {
    fn of(term: &NodeSelectorTerm) -> Self {
        let mut error = None;
        let mut read = |requirements: Option<&Vec<NodeSelectorRequirement>>| {
            let requirements: Result<_, _> = requirements.into_iter().flatten().map(requirement).collect();
            requirements.unwrap_or_else(|wrong| {
                error = Some(wrong);
                Vec::new()
            })
        };
        let expressions = read(term.match_expressions.as_ref());
        let fields = read(term.match_fields.as_ref());
        if fields.iter().any(|r| r.values.len() != 1) {
            error = Some("matchFields: values must have one element".into());
        }
        Self { expressions, fields, error }
    }

    fn matches(&self, node: &Node) -> bool {
        let label = |r: &Requirement| r.matches(node.labels.get(&r.key).map(String::as_str));
        let field = |r: &Requirement| r.matches(Some(if r.key == "metadata.name" { &node.name } else { "" }));
        self.error.is_none() && self.expressions.iter().all(label) && self.fields.iter().all(field)
    }
}

fn requirement(requirement: &NodeSelectorRequirement) -> Result<Requirement, String> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        other => return Err(format!("{other:?} is not a valid node selector operator")),
    };
    let values = requirement.values.clone().unwrap_or_default();
    Ok(Requirement { key: requirement.key.clone(), operator, values })
}
