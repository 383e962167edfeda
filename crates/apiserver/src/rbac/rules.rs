//! One RBAC rule: what it matches, and whether some rules cover another one.
//!
//! Semantics of upstream's `pkg/apis/rbac/v1/evaluation_helpers.go` and `component-helpers/auth/rbac/validation`.

use serde::{Deserialize, Serialize};

use super::Attributes;

/// `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

// === impl Rule ===

impl Rule {
    /// Whether it allows a request.
    pub fn allows(&self, request: &Attributes<'_>) -> bool {
        if !has(&self.verbs, request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.non_resource_urls.iter().any(|url| url_matches(url, request.path));
        }
        has(&self.api_groups, request.group)
            && self.resources.iter().any(|r| resource_matches(r, request.resource, request.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == request.name))
    }

    /// Go's `%q` of each part, as escalation errors print a rule.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| format!("{name}:{}", quoted(values)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }

    /// The rule as rules of one verb and one resource (and one name) or one URL each.
    fn broken_down(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Rule {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                        continue;
                    }
                    for name in &self.resource_names {
                        parts.push(Rule { resource_names: vec![name.clone()], ..part.clone() });
                    }
                }
            }
            for url in &self.non_resource_urls {
                parts.push(Rule { verbs: verbs.clone(), non_resource_urls: vec![url.clone()], ..Rule::default() });
            }
        }
        parts
    }

    /// Whether it grants everything that a broken-down rule grants.
    fn covers_part(&self, part: &Rule) -> bool {
        let all = |held: &[String], asked: &[String]| asked.iter().all(|asked| has(held, asked));
        let resource = |asked: &String| {
            let subresource = asked.split_once('/').map(|(_, sub)| format!("*/{sub}"));
            self.resources.iter().any(|held| held == "*" || held == asked || Some(held) == subresource.as_ref())
        };
        let names = if part.resource_names.is_empty() {
            self.resource_names.is_empty()
        } else {
            self.resource_names.is_empty() || part.resource_names.iter().all(|name| self.resource_names.contains(name))
        };
        let urls = part
            .non_resource_urls
            .iter()
            .all(|asked| self.non_resource_urls.iter().any(|held| held == asked || url_matches(held, asked)));
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(resource)
            && names
            && urls
    }
}

/// What `asked` grants beyond `held`, verbs of the same resource joined; `Ok` when nothing.
///
/// # Errors
/// The rules that aren't covered.
pub fn covers(held: &[Rule], asked: &[Rule]) -> Result<(), Vec<Rule>> {
    let mut missing: Vec<Rule> = Vec::new();
    for part in asked.iter().flat_map(Rule::broken_down) {
        if held.iter().any(|rule| rule.covers_part(&part)) {
            continue;
        }
        let same = |rule: &&mut Rule| {
            rule.api_groups == part.api_groups
                && rule.resources == part.resources
                && rule.resource_names == part.resource_names
                && rule.non_resource_urls == part.non_resource_urls
        };
        match missing.iter_mut().find(same) {
            Some(rule) if rule.verbs.contains(&part.verbs[0]) => {}
            Some(rule) => rule.verbs.extend(part.verbs),
            None => missing.push(part),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// Go's `%q` of a list of strings.
pub(super) fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

fn has(values: &[String], asked: &str) -> bool {
    values.iter().any(|value| value == "*" || value == asked)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
