//! The grammars of selectors in query strings (`k8s.io/apimachinery/pkg/labels`, `.../fields`).

use super::{FieldRequirement, Operator, Requirement, SelectorError, check_key};

const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// A word or a symbol. `Word` covers `in` and `notin` too, which are operators only where one is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut found = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(found),
            Token::Word(_) | Token::Symbol("!") => {}
            other => return error(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())),
        }
        let requirement = parser.requirement();
        found.push(requirement.map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?);
        match parser.next() {
            Token::End => return Ok(found),
            Token::Symbol(",") if matches!(parser.peek(), Token::Word(_) | Token::Symbol("!")) => {}
            Token::Symbol(",") => {
                return error(format!("found '{}', expected: identifier after ','", parser.peek().text()));
            }
            other => return error(format!("found '{}', expected: ',' or 'end of string'", other.text())),
        }
    }
}

struct Parser {
    /// Ends with `End`, which is never passed.
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.position]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.position].clone();
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut first = self.next();
        let negated = first == Token::Symbol("!");
        if negated {
            first = self.next();
        }
        let Token::Word(key) = first else {
            return error(format!("found '{}', expected: identifier", first.text()));
        };
        check_key("<nil>", &key)?;
        if negated {
            return Requirement::checked(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::checked(&key, Operator::Exists, Vec::new());
        }
        let operator = self.next();
        let (operator, values) = match operator.text() {
            "in" => (Operator::In, self.set()?),
            "notin" => (Operator::NotIn, self.set()?),
            "=" | "==" => (Operator::In, vec![self.value()?]),
            "!=" => (Operator::NotIn, vec![self.value()?]),
            ">" => (Operator::GreaterThan, vec![self.value()?]),
            "<" => (Operator::LessThan, vec![self.value()?]),
            other => return error(format!("found '{other}', expected: {BINARY_OPERATORS}")),
        };
        Requirement::checked(&key, operator, values)
    }

    /// What follows `=`: nothing at all means the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(_) => Ok(self.next().text().to_owned()),
            other => error(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// `(a,b,)`: each place between commas that holds nothing is the empty value.
    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return error(format!("found '{}' expected: '('", open.text()));
        }
        if !matches!(self.peek(), Token::Word(_) | Token::Symbol("," | ")")) {
            return error(format!("found '{}', expected: ',', ')' or identifier", self.peek().text()));
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) => values.push(self.next().text().to_owned()),
                Token::Symbol("," | ")") => values.push(String::new()),
                other => return error(format!("found '{}', expected: ',', or identifier", other.text())),
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return error(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

fn error<T>(message: String) -> Result<T, SelectorError> {
    Err(SelectorError(message))
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let is_symbol = |c: char| "=!(),><".contains(c);
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let token = match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => Token::Symbol(symbol),
            None => Token::Word(rest[..rest.find(|c| is_symbol(c) || is_space(c)).unwrap_or(rest.len())].to_owned()),
        };
        rest = rest[token.text().len()..].trim_start_matches(is_space);
        tokens.push(token);
    }
    tokens.push(Token::End);
    tokens
}

pub(super) fn field_requirements(text: &str) -> Result<Vec<FieldRequirement>, SelectorError> {
    let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let Some(at) = term.find('=') else {
                return error(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            let (field, value) = (&term[..at], &term[at + 1..]);
            let (field, equal) = match field.strip_suffix('!') {
                Some(field) => (field, false),
                None => (field, true),
            };
            let value = if equal { value.strip_prefix('=').unwrap_or(value) } else { value };
            Ok(FieldRequirement { field: field.to_owned(), equal, value: unescape(value)? })
        })
        .collect()
}

/// At the commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return error(format!("invalid field selector: invalid escape sequence: \\{other}")),
                None => return error("invalid field selector: invalid escape sequence: \\".into()),
            },
            ',' | '=' => return error(format!("invalid field selector: unescaped character in field selector: {c}")),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::selector::{FieldSelector, Selector};

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn label_selectors_match_as_upstreams() {
        // From k8s.io/apimachinery/pkg/labels/selector_test.go.
        let cases = [
            ("", "x=y", true),
            ("x=y", "x=y", true),
            ("x=y,z=w", "x=y,z=w", true),
            ("x!=y,z!=w", "x=z,z=a", true),
            ("notin=in", "notin=in", true),
            ("x", "x=z", true),
            ("!x", "y=z", true),
            ("x>1", "x=2", true),
            ("x<1", "x=0", true),
            ("x=y", "x=z", false),
            ("x=y,z=w", "x=w,z=w", false),
            ("x!=y,z!=w", "x=z,z=w", false),
            ("x", "y=z", false),
            ("!x", "x=z", false),
            ("x>1", "x=0", false),
            ("x<1", "x=2", false),
            ("x in (a,b)", "x=b", true),
            ("x in (a,b)", "y=b", false),
            ("x notin (a,b)", "y=b", true),
            ("x notin (a,b)", "x=a", false),
            ("x in ()", "x=", true),
            ("x in (a,,b)", "x=", true),
            ("x=", "x=", true),
            ("x==y, z in (w) ,!q", "x=y,z=w", true),
            ("in in (in)", "in=in", true),
        ];
        for (selector, against, expected) in cases {
            let parsed = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
            assert_eq!(parsed.matches(&labels(against)), expected, "{selector} on {against}");
        }
    }

    #[test]
    fn malformed_label_selectors_say_why() {
        let cases = [
            ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be"),
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x<a", "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators"),
            ("x in a", "unable to parse requirement: found 'a' expected: '('"),
            ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
            ("x,", "found '', expected: identifier after ','"),
            (",x", "found ',', expected: !, identifier, or 'end of string'"),
            ("a/b/c=d", "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key"),
        ];
        for (selector, expected) in cases {
            let error = Selector::parse(selector).expect_err(selector).to_string();
            assert!(error.starts_with(expected), "{selector}: {error}");
        }
    }

    #[test]
    fn field_selectors_split_where_upstream_splits() {
        let parsed = FieldSelector::parse(r"metadata.name=a\,b\=c,status.phase!=Running,x==y").expect("well-formed");
        let terms: Vec<_> =
            parsed.requirements().iter().map(|r| (r.field.as_str(), r.equal, r.value.as_str())).collect();
        assert_eq!(terms, [("metadata.name", true, "a,b=c"), ("status.phase", false, "Running"), ("x", true, "y")]);
        assert_eq!(
            FieldSelector::parse("foo").expect_err("no operator").to_string(),
            "invalid selector: 'foo'; can't understand 'foo'"
        );
        assert!(FieldSelector::parse(r"a=\b").is_err() && FieldSelector::parse("a=b=c").is_err());
        let pending = FieldSelector::parse("status.phase!=Running").expect("well-formed");
        assert!(pending.matches(|_| None) && !pending.matches(|_| Some("Running".into())));
    }
}
