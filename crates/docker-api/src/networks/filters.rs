//! `filters` of lists of networks and of their removal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::networks::document::Document;
use crate::reply::Failure;

const LIST: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE: &[&str] = &["label", "label!", "until"];

/// `{"label": ["a=b"]}`, or as older clients send it `{"label": {"a=b": true}}`.
#[derive(Debug, Default)]
pub struct Filters {
    values: BTreeMap<String, BTreeSet<String>>,
    /// Whether those that nobody uses are asked for, or the others.
    dangling: Option<bool>,
    until: Option<Timestamp>,
}

impl Filters {
    /// # Errors
    /// In dockerd's words.
    pub fn of_list(text: &str) -> Result<Self, Failure> {
        let mut filters = Self::parse(text, LIST)?;
        let dangling: Vec<&str> = filters.get("dangling").collect();
        filters.dangling = match dangling.as_slice() {
            [] => None,
            ["1" | "true"] => Some(true),
            ["0" | "false"] => Some(false),
            [_] => {
                let words = "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
                return Err(Failure::new(400, words));
            }
            _ => return Err(Failure::new(400, "got more than one value for filter key \"dangling\"")),
        };
        let unknown = filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom"));
        unknown.map_or(Ok(()), |kind| Err(Failure::new(400, format!("invalid filter: 'type'='{kind}'"))))?;
        Ok(filters)
    }

    /// # Errors
    /// In dockerd's words.
    pub fn of_prune(text: &str) -> Result<Self, Failure> {
        let mut filters = Self::parse(text, PRUNE)?;
        filters.dangling = Some(true);
        let until: Vec<&str> = filters.get("until").collect();
        filters.until = match until.as_slice() {
            [] => None,
            [text] => {
                Some(time(text).ok_or_else(|| Failure::new(400, format!("invalid value for \"until\": {text:?}")))?)
            }
            _ => return Err(Failure::new(400, "more than one until filter specified")),
        };
        Ok(filters)
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self, Failure> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || Failure::new(400, "invalid filter");
        let document: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut values = BTreeMap::new();
        for (name, found) in document {
            if !known.contains(&name.as_str()) {
                return Err(Failure::new(400, format!("invalid filter '{name}'")));
            }
            let found: Option<BTreeSet<String>> = match found {
                Value::Array(found) => found.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
                Value::Object(found) => {
                    Some(found.into_iter().filter(|(_, on)| *on == Value::Bool(true)).map(|(value, _)| value).collect())
                }
                _ => None,
            };
            values.insert(name, found.ok_or_else(invalid)?);
        }
        Ok(Self { values, ..Self::default() })
    }

    fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether nothing is asked under this name, or one of the values asked for fits.
    fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.get(name).next().is_none() || self.get(name).any(fits)
    }

    pub fn fits(&self, network: &Document, is_used: bool) -> bool {
        let custom = !network.is_predefined();
        let dangling = custom && !is_used;
        self.any("driver", |driver| driver == network.driver.name())
            && self.any("name", |pattern| fits_pattern(pattern, &network.name))
            && self.any("id", |pattern| fits_pattern(pattern, &network.id))
            && self.any("scope", |scope| scope == "local")
            && self.any("type", |kind| custom == (kind == "custom"))
            && self.get("label").all(|label| has_label(network, label))
            && !self.get("label!").any(|label| has_label(network, label))
            && self.dangling.is_none_or(|asked| asked == dangling)
            && self.until.is_none_or(|until| network.created <= until)
    }
}

/// As dockerd does it: the text itself, or a pattern that is found in it.
fn fits_pattern(pattern: &str, text: &str) -> bool {
    pattern == text || regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

fn has_label(network: &Document, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => network.labels.get(name).is_some_and(|own| own == value),
        None => network.labels.contains_key(wanted),
    }
}

/// A time, seconds since 1970, or how long ago.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?).ok();
    }
    Timestamp::now().checked_sub(text.parse::<SignedDuration>().ok()?).ok()
}
