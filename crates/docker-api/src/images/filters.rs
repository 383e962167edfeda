//! `filters` of a query: names with sets of values (moby, `daemon/internal/filters`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::reply::Failure;

/// Values by name.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// `{"label": {"a=b": true}}`, or in the old form `{"label": ["a=b"]}`; of the names only `accepted` ones.
    ///
    /// # Errors
    /// In Docker's words.
    pub fn parse(text: &str, accepted: &[&str]) -> Result<Self, Failure> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || Failure::new(400, "invalid filter");
        let given: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut fields = BTreeMap::new();
        for (name, values) in given {
            if !accepted.contains(&name.as_str()) {
                return Err(Failure::new(400, format!("invalid filter '{name}'")));
            }
            let values: BTreeSet<String> = match values {
                Value::Object(set) => set.into_iter().map(|(value, _)| value).collect(),
                Value::Array(list) => {
                    let texts = list.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(invalid));
                    texts.collect::<Result<_, _>>()?
                }
                _ => return Err(invalid()),
            };
            fields.insert(name, values);
        }
        Ok(Self(fields))
    }

    pub fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().insert(value.to_owned());
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &String> {
        self.0.get(name).into_iter().flatten()
    }

    /// # Errors
    /// When it is neither true nor false, or both.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        let Some(values) = self.0.get(name) else { return Ok(default) };
        let any = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (any(["1", "true"]), any(["0", "false"])) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => {
                let given = values.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                let value = if values.is_empty() { String::new() } else { format!("=[{given}]") };
                Err(Failure::new(400, format!("invalid filter '{name}{value}'")))
            }
        }
    }

    /// Whether all values, `name` or `name=value`, are among the labels; also when there are none.
    pub fn labels_match(&self, name: &str, labels: &HashMap<String, String>) -> bool {
        self.values(name).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }
}

/// One place of a pattern.
enum Piece {
    Any,
    One,
    Literal(char),
    /// Ranges, and whether it is all but these.
    Set(Vec<(char, char)>, bool),
}

/// `path.Match` of Go: `*` and `?` stop at slashes, `[a-z]` and `[^a-z]` are sets. Nothing when the pattern is none.
pub fn glob(pattern: &str, text: &str) -> Option<bool> {
    let pieces = pieces(pattern)?;
    let text: Vec<char> = text.chars().collect();
    // Which lengths of the text's start the pieces so far match.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            if let Piece::Any = piece {
                next[at] = reached[at] || (at > 0 && next[at - 1] && text[at - 1] != '/');
                continue;
            }
            let fits = |character: char| match &piece {
                Piece::Any => true,
                Piece::One => character != '/',
                Piece::Literal(literal) => character == *literal,
                Piece::Set(ranges, negated) => {
                    ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
                }
            };
            next[at] = at > 0 && reached[at - 1] && fits(text[at - 1]);
        }
        reached = next;
    }
    reached.last().copied()
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        pieces.push(match character {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Literal(rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.peek() != Some(&']') {
                    let low = rest.next()?;
                    let high = if rest.next_if_eq(&'-').is_some() { rest.next()? } else { low };
                    ranges.push((low, high));
                }
                rest.next();
                Piece::Set(ranges, negated)
            }
            other => Piece::Literal(other),
        });
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_path_does() {
        // Of path/match_test.go.
        let cases = [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a?b", "a/b", Some(false)),
            ("[", "a", None),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn filters_come_in_two_forms() {
        let accepted = ["label", "dangling"];
        let labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
        for text in [r#"{"label":{"a=b":true}}"#, r#"{"label":["a"]}"#, ""] {
            assert!(Filters::parse(text, &accepted).expect(text).labels_match("label", &labels), "{text}");
        }
        for text in [r#"{"label":["a=c"]}"#, r#"{"label":["a","x"]}"#] {
            assert!(!Filters::parse(text, &accepted).expect(text).labels_match("label", &labels), "{text}");
        }
        let refused = [("{", "invalid filter"), (r#"{"x":[]}"#, "invalid filter 'x'"), ("3", "invalid filter")];
        for (text, words) in refused {
            assert_eq!(Filters::parse(text, &accepted).expect_err(text).message, words);
        }
        let dangling = Filters::parse(r#"{"dangling":["maybe"]}"#, &accepted).expect("a filter");
        let failure = dangling.flag("dangling", false).expect_err("neither");
        assert_eq!((failure.status, failure.message.as_str()), (400, "invalid filter 'dangling=[maybe]'"));
    }
}
