//! Words of a Dockerfile's line: quotes, escapes and variables.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// At blanks, which quotes and backslashes protect.
///
/// # Errors
/// When a quote isn't closed.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(end) if end == character => break,
                        Some('\\') if character == '"' => word.extend(characters.next()),
                        Some(inside) => word.push(inside),
                        None => return Err("unexpected end of statement while looking for matching quote".into()),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// With `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}` replaced, but in single quotes.
pub fn with_variables(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                quoted = !quoted;
                out.push(character);
            }
            '\\' if !quoted => match characters.next() {
                Some('$') => out.push('$'),
                other => {
                    out.push('\\');
                    out.extend(other);
                }
            },
            '$' if !quoted => out.push_str(&variable(&mut characters, variables)),
            other => out.push(other),
        }
    }
    out
}

fn variable(characters: &mut Peekable<Chars>, variables: &BTreeMap<String, String>) -> String {
    let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
    if characters.next_if_eq(&'{').is_some() {
        let inside: String = characters.by_ref().take_while(|character| *character != '}').collect();
        return match inside.split_once(':') {
            Some((name, rest)) => match (rest.strip_prefix('-'), rest.strip_prefix('+'), value(name)) {
                (Some(default), _, value) if value.is_empty() => default.to_owned(),
                (Some(_), _, value) => value,
                (None, Some(other), value) if !value.is_empty() => other.to_owned(),
                _ => String::new(),
            },
            None => value(&inside),
        };
    }
    let mut name = String::new();
    while let Some(character) = characters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(character);
    }
    if name.is_empty() { "$".to_owned() } else { value(&name) }
}
